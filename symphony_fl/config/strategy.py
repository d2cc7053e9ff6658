"""Options of how agents work together: strategies and clocks."""

from __future__ import annotations

from typing import Literal

from symphony_fl import registry
from symphony_fl.config.option import ComponentOptions, option


class GossipOptions(ComponentOptions):
    """Neighbours exchange updates after every round. Options of plug-ins' strategies of gossip derive from these."""

    name: str = "gossip"


class AsyncGossipOptions(ComponentOptions):
    """The same without a round barrier (sections 5.1, 5.4)."""

    name: Literal["async_gossip"] = "async_gossip"
    max_staleness: int = option(
        32,
        "updates computed while their receiver did more rounds than this are refused (choco: they move nothing); "
        "the rounds of mail a home keeps for a server that lost its own",
        low=0,
        high=1000,
    )
    staleness_power: float = option(
        0.5,
        "a of (1 + s)^-a, the weight in merging of an update s rounds stale (not epidemic)",
        low=0,
        high=10,
    )
    deadline: float = option(
        6.0,
        "k: an agent is asked again after median + k MAD of the seconds its last answers took",
        above=0,
        high=1000,
    )
    deadline_floor: float = option(30.0, "seconds an agent has at least before it is asked again", above=0)
    start_with: int = option(
        0, "agents that must be there to begin, others may join later; 0: all", low=0, high=100000
    )


class FedAvgOptions(ComponentOptions):
    """Flower's own FedAvg, the baseline."""

    name: Literal["fedavg"] = "fedavg"


class IsolatedOptions(ComponentOptions):
    """No exchange at all."""

    name: Literal["isolated"] = "isolated"


class CentralizedOptions(ComponentOptions):
    """Agent 0 trains, the others generate (section 6.2)."""

    name: Literal["centralized"] = "centralized"
    lag: int = option(
        0,
        "steps between the weights that generate and those that are trained, at least; 0: one after the other",
        low=0,
        high=32,
    )
    slack: int = option(
        2,
        "rollouts are refused of weights more steps older than this than they need be, by lag and by the depth of the "
        "tree; the more, the more weights a worker may choose among. Where bandwidth makes weights older, allow for it",
        low=0,
        high=64,
    )
    parts: int = option(
        4, "shares into which a step's tasks are dealt out, each generated as one batch", low=1, high=4096
    )
    fanout: int = option(
        0,
        "workers to which each hands the weights on, beginning with the trainer; 0: the trainer to all",
        low=0,
    )
    send: Literal["weights", "changes"] = option(
        "weights",
        "weights: all of them, of the newest step; changes: what exchange.selection chooses of the distance to the "
        "workers' copy, whose rest is kept for later (SPARTA)",
    )
    whole_every: int = option(
        0,
        "of so many versions one is sent whole, for workers that missed a change; 0: none (send: changes)",
        low=0,
    )
    momentum: float = option(
        0.0,
        "m: a worker generates with w <- m w + (1 - m) copy, after each change that came (section 6.3; send: changes)",
        low=0,
        high=0.99,
    )
    chunk: int = option(
        16384, "bytes; weights that take more are cut into chunks of this size", low=1024, high=1 << 24
    )
    bandwidth: int = option(
        0, "bytes of weights that the trainer hands to each worker per step; 0: whatever there is", low=0
    )
    tolerance: float = option(
        0.01, "largest difference between a recorded log-probability and the trainer's own", above=0, high=10
    )
    chance_tolerance: float = option(
        1e-4,
        "largest distance of a token's chance number to where its distribution has that token; weights of 16 bits on "
        "different processors want more, and leave a worker more choice",
        above=0,
        high=1,
    )


registry.add(
    "strategies", (GossipOptions, AsyncGossipOptions, FedAvgOptions, IsolatedOptions, CentralizedOptions)
)


class VirtualClockOptions(ComponentOptions):
    """A round takes as long as the recipe says; the same recipe gives the same numbers."""

    name: Literal["virtual"] = "virtual"
    seconds_per_round: float = option(
        60.0, "virtual seconds that a round takes an agent of speed 1", above=0, high=1e9
    )
    speeds: list[str] = option(
        [], "numbers or names of devices, dealt out to the agents in turn; none: all 1"
    )
    jitter: float = option(0.0, "standard deviation of the logarithm of a round's duration", low=0, high=2)
    bandwidths: list[str] = option(
        [],
        "Mbit/s of the agents' links, 10 or up/down 5/50, dealt out to the agents in turn; none: transfers take "
        "no time",
    )
    latency: float = option(0.0, "seconds added to every transfer of an agent's mail", low=0, high=3600)
    availability: list[float] = option(
        [], "shares of the time that agents are on line, dealt out to them in turn; none: always"
    )
    outage: float = option(
        300.0, "seconds for which a device stays on line or off line at a time", above=0, high=1e9
    )


class WallClockOptions(ComponentOptions):
    """Replies are taken as they arrive (async_gossip)."""

    name: Literal["wall"] = "wall"


registry.add("clocks", (VirtualClockOptions, WallClockOptions))
