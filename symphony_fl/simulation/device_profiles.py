"""The devices of a run: how fast they are, what they hold, how they are connected, how much of the time they are there.

The paper (section 6) runs on 3 to 5 consumer devices of different make. Here they are profiles: the virtual clock of
`async_gossip` uses them, and `round_time.py` computes how long a run with a round barrier would have taken on them.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from symphony_fl.config.explain import did_you_mean
from symphony_fl.config.options import Recipe
from symphony_fl.config.recipe import RecipeError

BYTES_PER_MEGABIT = 125_000
SAMPLES_OF_SECONDS = (
    8 * 16 * 8
)  # samples of the default job's round, which takes a device of speed 1 so long:
REFERENCE_SECONDS = 60.0
GENERATION = (
    0.5  # share of a sample's seconds that goes into generating it, the rest into training on it; as measured
)
LEAST_AVAILABLE = 0.01


@dataclass(frozen=True)
class Device:
    """What its maker publishes. Peak memory bandwidth in GB/s: generating a token reads all weights once, and much of
    a GRPO round is generation, so this says more about a round's speed than peak arithmetic does. Memory in bytes,
    that of the smallest configuration with this bandwidth."""

    bandwidth: float
    memory: int


DEVICES = {
    "rtx4090": Device(1008.0, 24 << 30),
    "rtx3060": Device(360.0, 12 << 30),
    "jetson_agx_orin": Device(204.8, 32 << 30),
    "m2": Device(100.0, 8 << 30),
    "jetson_orin_nano": Device(68.0, 8 << 30),
}

PARAMETERS = {
    "tiny": 189_120,
    "smollm2": 134_515_008,
    "TinyLlama/TinyLlama-1.1B-Chat-v1.0": 1_100_048_384,
    "microsoft/phi-2": 2_779_683_840,
    "mistralai/Mistral-7B-v0.1": 7_241_732_096,
}
"""Weights of the models that recipes name. Of others nothing is known before they are loaded."""

BYTES_OF = {"float32": 4.0, "bfloat16": 2.0, "float16": 2.0}


@dataclass(frozen=True)
class Hardware:
    """One agent's device and its connection.

    Attributes
    ----------
    speed : samples per second, that of an RTX 3060 being 1
    memory : bytes; None where only a speed is known
    up, down : Mbit/s; infinite where transfers take no time
    latency : seconds added to every transfer that has bytes
    availability : share of the time it is on line, 0.01 to 1; off line it neither works nor transfers
    """

    speed: float = 1.0
    memory: int | None = None
    up: float = math.inf
    down: float = math.inf
    latency: float = 0.0
    availability: float = 1.0

    def upload(self, size: float) -> float:
        """Seconds that `size` bytes take: latency + size / (125,000 up); nothing takes none."""
        return self.latency + size / (BYTES_PER_MEGABIT * self.up) if size else 0.0

    def download(self, size: float) -> float:
        """Seconds that `size` bytes take: latency + size / (125,000 down); nothing takes none."""
        return self.latency + size / (BYTES_PER_MEGABIT * self.down) if size else 0.0


@dataclass(frozen=True)
class Fleet:
    """The devices of a run's agents, in the order of their numbers; the same for everyone who asks.

    Attributes
    ----------
    seconds_per_sample : to generate one sample and train on it, at speed 1
    seed, jitter : durations are log-normal around their mean, drawn from (seed, agent, round); `jitter` is the standard
        deviation of the logarithm
    outage : seconds for which a device stays on line or off line; which, is drawn from (seed, agent, which stretch)
    """

    agents: tuple[Hardware, ...]
    seconds_per_sample: float = REFERENCE_SECONDS / SAMPLES_OF_SECONDS
    seed: int = 0
    jitter: float = 0.0
    outage: float = 300.0

    def compute(self, agent: int, round: int, generated: float, trained: float) -> float:
        """Seconds of that agent's round: (g generated + (1 - g) trained) seconds_per_sample / speed x jitter,
        where g = GENERATION, and generated and trained are numbers of samples."""
        work = GENERATION * generated + (1 - GENERATION) * trained
        return drawn(
            work * self.seconds_per_sample / self.agents[agent].speed, self.jitter, self.seed, agent, round
        )

    def end(self, agent: int, start: float, seconds: float) -> float:
        """When work of so many seconds, begun at `start`, is done: it rests while the device is off line."""
        share = self.agents[agent].availability
        if share >= 1 or seconds <= 0:
            return start + seconds
        now, stretch = start, int(start // self.outage)
        while True:
            until = (stretch + 1) * self.outage
            if random.Random(f"symphony-fl/outage/{self.seed}/{agent}/{stretch}").random() < share:
                if now + seconds <= until:
                    return now + seconds
                seconds -= until - now
            now, stretch = until, stretch + 1

    def connected(self, megabits: float) -> Fleet:
        """The same devices with links of `megabits` Mbit/s, both ways."""
        return replace(self, agents=tuple(replace(item, up=megabits, down=megabits) for item in self.agents))


def drawn(mean: float, jitter: float, seed: int, agent: int, round: int) -> float:
    """A duration, log-normal around its mean."""
    if not jitter:
        return mean
    # Python's generator: its Gauss of a string seed is stable across versions and machines.
    gauss = random.Random(f"symphony-fl/clock/{seed}/{agent}/{round}").gauss(0.0, jitter)
    return mean * math.exp(gauss - jitter**2 / 2)


def round_samples(recipe: Recipe) -> int:
    """Samples of one agent's round."""
    return recipe.learner.steps * recipe.learner.prompts * recipe.learner.samples


def recipe_fleet(recipe: Recipe) -> Fleet:
    """The devices that the recipe's clock names.

    Raises
    ------
    RecipeError
        An entry of the lists says nothing, or the lists are longer than there are agents.
    """
    clock, agents = recipe.virtual_clock, recipe.agents
    for name in ("speeds", "bandwidths", "availability"):
        count = len(getattr(clock, name))
        if count > agents:
            raise RecipeError(f"clock.{name}: has {count} entries, must be at most one per agent, {agents}")
    speeds = clock.speeds or ["1"]
    links = [_link(text) for text in clock.bandwidths] or [(math.inf, math.inf)]
    shares = [_share(value) for value in clock.availability] or [1.0]
    hardware = []
    for agent in range(agents):
        device = DEVICES.get(speeds[agent % len(speeds)])
        up, down = links[agent % len(links)]
        hardware.append(
            Hardware(
                speed=speed_of(speeds[agent % len(speeds)]),
                memory=None if device is None else device.memory,
                up=up,
                down=down,
                latency=clock.latency,
                availability=shares[agent % len(shares)],
            )
        )
    per_sample = clock.seconds_per_round / max(1, round_samples(recipe))
    return Fleet(tuple(hardware), per_sample, recipe.seed, clock.jitter, clock.outage)


def round_seconds(recipe: Recipe, agent: int, round: int) -> float:
    """Virtual seconds that an agent's round takes, transfers and outages aside: the same for everyone who asks."""
    options = recipe.virtual_clock
    mean = options.seconds_per_round / agent_speeds(options.speeds, recipe.agents)[agent]
    return drawn(mean, options.jitter, recipe.seed, agent, round)


def agent_speeds(speeds: Sequence[str], agents: int) -> list[float]:
    """Speed of every agent: the list dealt out in turn, 1 where it is empty.

    Raises
    ------
    RecipeError
        An entry is neither a positive number nor the name of a device.
    """
    given = [speed_of(text) for text in speeds] or [1.0]
    return [given[agent % len(given)] for agent in range(agents)]


def speed_of(text: str) -> float:
    """A number, or that of a device: its memory bandwidth, that of an RTX 3060 being 1."""
    if text in DEVICES:
        return DEVICES[text].bandwidth / DEVICES["rtx3060"].bandwidth
    try:
        speed = float(text)
    except ValueError:
        raise RecipeError(
            f"clock.speeds = {text!r}: must be numbers or names of devices{did_you_mean(text, DEVICES)}"
        ) from None
    if not 0.0 < speed < math.inf:
        raise RecipeError(f"clock.speeds = {text!r}: must be above 0 and finite")
    return speed


def weight_bytes(recipe: Recipe) -> float | None:
    """Bytes of the frozen weights alone, the least that a device must hold; None where the model is not known."""
    parameters = PARAMETERS.get(recipe.model.name)
    if parameters is None:
        return None
    return parameters * (0.5 if recipe.model.quantization == "nf4" else BYTES_OF[recipe.model.dtype])


def check_hardware(recipe: Recipe) -> Fleet:
    """The recipe's devices, once each of them can hold the model's weights.

    Raises
    ------
    RecipeError
        As of `recipe_fleet`, or the weights are larger than a device's whole memory.
    """
    fleet, needed = recipe_fleet(recipe), weight_bytes(recipe)
    for agent, item in enumerate(fleet.agents):
        if needed is not None and item.memory is not None and needed > item.memory:
            raise RecipeError(
                f"clock.speeds = {recipe.virtual_clock.speeds[agent % len(recipe.virtual_clock.speeds)]!r}: has "
                f"{item.memory / 2**30:.0f} GiB, must hold the weights of {recipe.model.name}, "
                f"{needed / 2**30:.1f} GiB (model.dtype, model.quantization)"
            )
    return fleet


def _link(text: str) -> tuple[float, float]:
    """Mbit/s up and down, from "10" or "5/50"."""
    up, slash, down = text.partition("/")
    try:
        found = (float(up), float(down if slash else up))
    except ValueError:
        found = (0.0, 0.0)
    if not all(0.0 < value < math.inf for value in found):
        raise RecipeError(
            f"clock.bandwidths = {text!r}: must be Mbit/s above 0, such as '10', or up/down, such as '5/50'"
        )
    return found


def _share(value: float) -> float:
    if not LEAST_AVAILABLE <= value <= 1:
        raise RecipeError(f"clock.availability = {value!r}: must be at least {LEAST_AVAILABLE} and at most 1")
    return value
