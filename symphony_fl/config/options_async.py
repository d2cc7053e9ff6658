"""Keys of a recipe about agents that are not in step (`asynchrony.py`, `strategies/async_gossip.py`)."""

from __future__ import annotations

from dataclasses import dataclass

from symphony_fl.config.option import option


@dataclass
class AsyncGossipOptions:
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


@dataclass
class ClockOptions:
    kind: str = option(
        "virtual",
        "virtual: a round takes as long as the recipe says, and the same recipe gives the same numbers; "
        "wall: replies are taken as they arrive (async_gossip)",
        choices=("virtual", "wall"),
    )
    seconds_per_round: float = option(
        60.0, "virtual seconds that a round takes an agent of speed 1", above=0, high=1e9
    )
    speeds: list[str] = option(
        [], "numbers or names of devices, dealt out to the agents in turn; none: all 1 (virtual)"
    )
    jitter: float = option(
        0.0, "standard deviation of the logarithm of a round's duration (virtual)", low=0, high=2
    )
    bandwidths: list[str] = option(
        [],
        "Mbit/s of the agents' links, 10 or up/down 5/50, dealt out to the agents in turn; none: transfers take "
        "no time (virtual)",
    )
    latency: float = option(
        0.0, "seconds added to every transfer of an agent's mail (virtual)", low=0, high=3600
    )
    availability: list[float] = option(
        [], "shares of the time that agents are on line, dealt out to them in turn; none: always (virtual)"
    )
    outage: float = option(
        300.0, "seconds for which a device stays on line or off line at a time (virtual)", above=0, high=1e9
    )
