"""The whole of a recipe, section by section. Read and checked by `recipe.py`."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated

from symphony_fl.config.exchange import ExchangeOptions, SparseOptions
from symphony_fl.config.learning import (
    AdapterOptions,
    GRPOOptions,
    LearnerOptions,
    LocalRewardOptions,
    ModelOptions,
    NoMemoryOptions,
    NoSelfPlayOptions,
    TaskOptions,
    UniformOptions,
)
from symphony_fl.config.network import AdversaryOptions, RingOptions
from symphony_fl.config.option import Chosen, ComponentOptions, Options, option
from symphony_fl.config.strategy import (
    AsyncGossipOptions,
    CentralizedOptions,
    GossipOptions,
    VirtualClockOptions,
)

EXPERIMENT = "symphony-fl"


class TrackingOptions(Options):
    """What MLflow is told."""

    uri: str = option("", "MLflow tracking URI; empty: a SQLite file under the Symphony folder")
    experiment: str = option(EXPERIMENT, "MLflow experiment")
    agents: bool = option(True, "a child run and the adapter of every agent; false: the network only")
    trace: bool = option(
        False, "agents keep their updates of evaluated rounds in their homes, and report how smooth those are"
    )


class LimitOptions(Options):
    """How long to wait, and how many at once."""

    wait_for_nodes: float = option(
        180.0, "seconds to wait for agents of which none is at work on its greeting", above=0
    )
    round_timeout: float = option(3600.0, "seconds after which a round goes on without the missing", above=0)
    at_once: int = option(
        0,
        "simulated agents that work at the same time, each in a process with a base model of its own; "
        "0: one per processor",
        low=0,
        high=4096,
    )


class Recipe(Options):
    """Everything of an experiment. Seeds of all randomness derive from (seed, agent, round)."""

    name: str = option("default", "name of the recipe in results")
    description: str = option("", "one line for people")
    plugins: list[str] = option(
        [],
        "Python files with components of your own, for runs on this machine; a path starts beside the recipe",
    )
    strategy: Annotated[ComponentOptions, Chosen("strategies")] = option(
        GossipOptions(), "how agents work together"
    )
    agents: int = option(4, "number of agents, N; 1: a trainer alone (centralized)", low=1, high=100000)
    agents_per_node: int = option(
        1, "agents behind one SuperNode; many more than 100 agents on one machine want it", low=1, high=4096
    )
    rounds: int = option(30, "number of rounds; async_gossip: mean over the agents", low=1)
    seed: int = option(0, "seed of the run", low=0, high=2**31 - 1)
    model: ModelOptions = option(ModelOptions(), "the base model")
    adapter: AdapterOptions = option(AdapterOptions(), "what is trained beside it")
    learner: Annotated[LearnerOptions, Chosen("learners")] = option(
        GRPOOptions(), "how an agent improves its adapter"
    )
    tasks: TaskOptions = option(TaskOptions(), "what is asked")
    memory: Annotated[ComponentOptions, Chosen("memories")] = option(
        NoMemoryOptions(), "what an agent remembers"
    )
    curriculum: Annotated[ComponentOptions, Chosen("curricula")] = option(
        UniformOptions(), "which tasks are drawn"
    )
    selfplay: Annotated[ComponentOptions, Chosen("proposers")] = option(
        NoSelfPlayOptions(), "whether the agent's own model writes the tasks it trains on"
    )
    reward: Annotated[ComponentOptions, Chosen("rewards")] = option(
        LocalRewardOptions(), "what an agent is rewarded for"
    )
    topology: Annotated[ComponentOptions, Chosen("topologies")] = option(
        RingOptions(), "the graph G = (A, E) of who sends to whom"
    )
    exchange: ExchangeOptions = option(ExchangeOptions(), "what agents share")
    adversary: AdversaryOptions = option(AdversaryOptions(), "hostile agents, for experiments")
    clock: Annotated[ComponentOptions, Chosen("clocks")] = option(
        VirtualClockOptions(), "when a round of an agent is over"
    )
    tracking: TrackingOptions = option(TrackingOptions(), "what MLflow is told")
    limits: LimitOptions = option(LimitOptions(), "how long to wait, and how many at once")

    @property
    def gossips(self) -> bool:
        """True where agents exchange envelopes with their neighbours."""
        return isinstance(self.strategy, GossipOptions | AsyncGossipOptions)

    @property
    def asynchronous(self) -> bool:
        """True where agents have no round barrier."""
        return isinstance(self.strategy, AsyncGossipOptions)

    @property
    def async_gossip(self) -> AsyncGossipOptions:
        """The options of `async_gossip`; their defaults where the strategy is another."""
        return self.strategy if isinstance(self.strategy, AsyncGossipOptions) else AsyncGossipOptions()

    @property
    def centralized(self) -> CentralizedOptions:
        """The options of `centralized`; their defaults where the strategy is another."""
        return self.strategy if isinstance(self.strategy, CentralizedOptions) else CentralizedOptions()

    @property
    def density(self) -> float:
        """Share of the entries that travels in the first round."""
        options = self.exchange.selection
        return options.density if isinstance(options, SparseOptions) else 1.0

    @property
    def virtual_clock(self) -> VirtualClockOptions:
        """The virtual clock; devices of speed 1 that are always on line where there is none."""
        return self.clock if isinstance(self.clock, VirtualClockOptions) else VirtualClockOptions()

    def to_json(self) -> str:
        """Canonical text: the same recipe gives the same bytes on every machine."""
        return json.dumps(self.model_dump(), sort_keys=True, separators=(",", ":"))

    @property
    def digest(self) -> str:
        """16 hex digits of SHA-256 over the canonical text."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:16]
