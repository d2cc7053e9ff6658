"""What `async_gossip` needs to know of a recipe: how fast its agents are, how far their rounds reach, what it refuses.

Agents count their own rounds. A run is over when all of them together have done agents x rounds.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

from symphony_fl.exchange.topology import Topology
from symphony_fl.recipe import Recipe, RecipeError, did_you_mean

GOSSIPS = ("gossip", "async_gossip")
"""The strategies in which agents exchange envelopes."""

# Peak memory bandwidth in GB/s as the makers publish it. Generating a token reads all weights once, and most of a
# GRPO round is generation, so this says more about the speed of a round than peak arithmetic does.
BANDWIDTH = {
    "rtx4090": 1008.0,
    "rtx3060": 360.0,
    "jetson_agx_orin": 204.8,
    "m2": 100.0,
    "jetson_orin_nano": 68.0,
}
DEVICES = {name: bandwidth / BANDWIDTH["rtx3060"] for name, bandwidth in BANDWIDTH.items()}
"""Speed of a device by its name, that of an RTX 3060 being 1."""

RULES = ("average", "delta", "choco", "epidemic")
"""The rules that take updates whenever they come. `noloco` pairs steps of the same round."""

SYNCHRONOUS_OUTBOXES = 2  # a neighbour may be one whole round behind when a run resumes


def is_asynchronous(recipe: Recipe) -> bool:
    return recipe.strategy == "async_gossip"


def last_round(recipe: Recipe) -> int:
    """The highest round an agent of the run can reach: in the extreme one does the work of all."""
    return recipe.rounds * recipe.agents if is_asynchronous(recipe) else recipe.rounds


def kept_outboxes(recipe: Recipe) -> int:
    """How many rounds' outboxes a home keeps, so that a server that lost its mail can be given it again.

    Where only a sender's newest update counts (`average`), older ones need not be kept.
    """
    if not is_asynchronous(recipe) or recipe.exchange.rule == "average":
        return SYNCHRONOUS_OUTBOXES
    return max(SYNCHRONOUS_OUTBOXES, 1 + recipe.async_gossip.max_staleness)


def agent_speeds(speeds: Sequence[str], agents: int) -> list[float]:
    """Speed of every agent: the list dealt out in turn, 1 where it is empty.

    Raises
    ------
    RecipeError
        An entry is neither a positive number nor the name of a device.
    """
    given = [_speed(text) for text in speeds] or [1.0]
    return [given[agent % len(given)] for agent in range(agents)]


def round_seconds(recipe: Recipe, agent: int, round: int) -> float:
    """Virtual seconds that an agent's round takes: the same for everyone who asks.

    Log-normal around the mean that speed and recipe give, drawn from (seed, agent, round).
    """
    options = recipe.clock
    mean = options.seconds_per_round / agent_speeds(options.speeds, recipe.agents)[agent]
    if not options.jitter:
        return mean
    # Python's generator: its Gauss of a string seed is stable across versions and machines.
    drawn = random.Random(f"symphony-fl/clock/{recipe.seed}/{agent}/{round}").gauss(0.0, options.jitter)
    return mean * math.exp(drawn - options.jitter**2 / 2)


def check_asynchronous(recipe: Recipe, topology: Topology) -> None:
    """Refuse what needs all agents in the same round.

    Raises
    ------
    RecipeError
        Names the field, its value and what is allowed.
    """
    agent_speeds(recipe.clock.speeds, recipe.agents)
    if len(recipe.clock.speeds) > recipe.agents:
        raise RecipeError(
            f"clock.speeds: has {len(recipe.clock.speeds)} entries, must be at most one per agent, {recipe.agents}"
        )
    if not is_asynchronous(recipe):
        return
    exchange, options = recipe.exchange, recipe.async_gossip
    if exchange.rule not in RULES:
        _refuse("exchange.rule", exchange.rule, f"one of {', '.join(RULES)}")
    if exchange.rule == "epidemic" and exchange.combine != "agents":
        _refuse("exchange.combine", exchange.combine, "'agents', the others wait for whole rounds")
    if exchange.robust != "none":
        _refuse("exchange.robust", exchange.robust, "'none', the others compare all updates of one round")
    if recipe.reward.shared != "off":
        _refuse("reward.shared", recipe.reward.shared, "'off', its window is one of common rounds")
    if topology.period != 1:
        _refuse("topology.name", topology.name, "a graph that does not change with the round")
    if options.start_with > recipe.agents:
        _refuse("async_gossip.start_with", options.start_with, f"at most agents, {recipe.agents}")
    if options.start_with and recipe.clock.kind == "virtual":
        _refuse(
            "async_gossip.start_with", options.start_with, "0 with the virtual clock, which is reproducible"
        )


def _refuse(field: str, value: object, allowed: str) -> None:
    raise RecipeError(f"{field} = {value!r}: must be {allowed} (strategy 'async_gossip')")


def _speed(text: str) -> float:
    if text in DEVICES:
        return DEVICES[text]
    try:
        speed = float(text)
    except ValueError:
        raise RecipeError(
            f"clock.speeds = {text!r}: must be numbers or names of devices{did_you_mean(text, DEVICES)}"
        ) from None
    if not 0.0 < speed < float("inf"):
        raise RecipeError(f"clock.speeds = {text!r}: must be above 0 and finite")
    return speed
