"""How long a run would have taken on given devices and links: simulated seconds, and time to accuracy.

The input is what the run counted (`history.py`): which agents took part in a round, and the bytes of every agent. The
agents of `async_gossip` use such a clock while they run. All other strategies have a round barrier, and the formulas
below give the length of their rounds. In each, of an agent a in round r that begins at time t:

    c(g, n)    seconds to generate g samples and to train on n     `Fleet.compute`
    d, u       seconds that the bytes take which the agent received, sent in the round     `Hardware.download`, `upload`
    end(t, s)  when work of s seconds is done, outages included    `Fleet.end`; without outages t + s

and the next round begins when the last of them is done. Evaluations take no time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from symphony_fl.config.options import Recipe
from symphony_fl.config.strategy import VirtualClockOptions
from symphony_fl.metrics.history import History
from symphony_fl.simulation.device_profiles import Fleet, recipe_fleet, round_samples

TRAINER = 0  # number of the agent that trains where the others generate


class TimeError(ValueError):
    """Simulated time that cannot be told from a run; the message says why."""


@dataclass(frozen=True)
class Traffic:
    """What a round took: the `network`'s number of agents, the `agents` that took part, `samples` each of them worked
    on (one trainer: all of them), and bytes by agent."""

    number: int
    network: int
    agents: tuple[int, ...]
    samples: int
    received: Mapping[int, float]
    sent: Mapping[int, float]


Barrier = Callable[[Fleet, Traffic, float], float]
"""(devices, what a round took, when it begins) -> when it is over."""


def peers(fleet: Fleet, round: Traffic, start: float) -> float:
    """Agents that learn by themselves and exchange: max over a of end(t, d + c(n, n) + u)."""
    return max(
        fleet.end(
            agent,
            start,
            fleet.agents[agent].download(round.received.get(agent, 0.0))
            + fleet.compute(agent, round.number, round.samples, round.samples)
            + fleet.agents[agent].upload(round.sent.get(agent, 0.0)),
        )
        for agent in round.agents
    )


def server(fleet: Fleet, round: Traffic, start: float) -> float:
    """Agents around a server, whose link is like agent 0's and carries all agents' bytes, as in FedAvg:
    max over a of end(t, max(d, D) + c(n, n) + max(u, U)), where D and U are the seconds that all agents' received and
    sent bytes together take the server's link, up and down.
    """
    link = fleet.agents[0]
    spread = link.upload(sum(round.received.values()))
    gathered = link.download(sum(round.sent.values()))
    return max(
        fleet.end(
            agent,
            start,
            max(spread, fleet.agents[agent].download(round.received.get(agent, 0.0)))
            + fleet.compute(agent, round.number, round.samples, round.samples)
            + max(gathered, fleet.agents[agent].upload(round.sent.get(agent, 0.0))),
        )
        for agent in round.agents
    )


def alone(fleet: Fleet, round: Traffic, start: float) -> float:
    """One server that generates, then trains: end(t, c(n, n)) of agent 0. Nothing is transferred."""
    seconds = fleet.compute(TRAINER, round.number, round.samples, round.samples)
    return fleet.end(TRAINER, start, seconds)


def workers(fleet: Fleet, round: Traffic, start: float) -> float:
    """Agent 0 trains on older samples while the others generate the next ones in equal shares (section 6.2, one step
    and two steps; lag 1 and more): max(end(t, d + c(0, n) + u) of agent 0, max over the w others of
    end(t, d + c(n / w, 0) + u))."""
    return max(_generated(fleet, round, start), _trained(fleet, round, start))


def in_turn(fleet: Fleet, round: Traffic, start: float) -> float:
    """The others generate in equal shares, then agent 0 trains on that (lag 0): with s the end of the last of the
    w others, max over them of end(t, d + c(n / w, 0) + u), the round ends at end(s, d + c(0, n) + u) of agent 0."""
    return _trained(fleet, round, _generated(fleet, round, start))


def _trained(fleet: Fleet, round: Traffic, start: float) -> float:
    item = fleet.agents[TRAINER]
    seconds = item.download(round.received.get(TRAINER, 0.0)) + item.upload(round.sent.get(TRAINER, 0.0))
    return fleet.end(TRAINER, start, seconds + fleet.compute(TRAINER, round.number, 0, round.samples))


def _generated(fleet: Fleet, round: Traffic, start: float) -> float:
    others = [agent for agent in range(round.network) if agent != TRAINER]
    ends = []
    for agent in others:
        item = fleet.agents[agent]
        seconds = item.download(round.received.get(agent, 0.0)) + item.upload(round.sent.get(agent, 0.0))
        seconds += fleet.compute(agent, round.number, round.samples / len(others), 0)
        ends.append(fleet.end(agent, start, seconds))
    return max(ends)


BARRIERS: dict[str, Barrier] = {
    "gossip": peers,
    "isolated": peers,
    "fedavg": server,
    "centralized": workers,
}
"""By strategy. What is between two of its rounds."""


def barrier_of(recipe: Recipe) -> Barrier:
    """The formula of a recipe's rounds.

    Raises
    ------
    TimeError
        Its strategy has none.
    """
    if recipe.strategy.name == "centralized" and recipe.agents == 1:
        return alone
    name = recipe.strategy.name
    if name == "centralized" and not recipe.centralized.lag:
        return in_turn
    if name not in BARRIERS:
        raise TimeError(f"strategy = {name!r}: must be one of async_gossip, {', '.join(BARRIERS)}")
    return BARRIERS[name]


def round_ends(rounds: Iterable[Traffic], fleet: Fleet, barrier: Barrier) -> dict[int, float]:
    """Round -> simulated seconds since the start at which it is over, for rounds in order; round 0 is over at 0."""
    ends, now = {0: 0.0}, 0.0
    for round in rounds:
        now = barrier(fleet, round, now)
        ends[round.number] = now
    return ends


def evaluated_seconds(
    history: History, recipe: Recipe, fleet: Fleet, barrier: Barrier | None = None
) -> dict[int, float]:
    """Evaluated round -> simulated seconds since the start at which it is over on these devices.

    `barrier` None: that of the recipe's strategy. Agents without a round barrier ran by their own clock, whose times
    are returned unchanged: on other devices it would have been another run.

    Raises
    ------
    TimeError
        There are fewer devices than agents, the strategy has no formula, or a run without a round barrier is asked for
        other devices than it ran on.
    """
    if len(fleet.agents) < recipe.agents:
        raise TimeError(f"devices: {len(fleet.agents)}, must be at least one per agent, {recipe.agents}")
    if recipe.asynchronous:
        return _own_clock(history, recipe, fleet)
    ends = round_ends(_traffic(history, recipe), fleet, barrier or barrier_of(recipe))
    return {number: ends[number] for number in history.rounds("evaluate") if number in ends}


def time_to_accuracy(
    history: History, threshold: float, recipe: Recipe, fleet: Fleet, barrier: Barrier | None = None
) -> float | None:
    """Simulated seconds until the first evaluation whose accuracy, the mean over all skills and agents, is at least
    `threshold`; None where no evaluation is. Nothing is interpolated: evaluations are as far apart as the recipe says.

    Raises
    ------
    TimeError
        As of `evaluated_seconds`.
    """
    accuracy = history.mean("evaluate", "accuracy/mean")
    seconds = evaluated_seconds(history, recipe, fleet, barrier)
    return min(
        (seconds[number] for number in seconds if accuracy.get(number, 0.0) >= threshold), default=None
    )


def _traffic(history: History, recipe: Recipe) -> list[Traffic]:
    """Every round's bytes as recorded: mail counts when it is delivered, with the receiver's next message."""
    found = []
    for number in history.rounds("train"):
        agents = tuple(sorted({event.agent for event in history.events("train") if event.round == number}))
        booked = {agent: history.metrics("bytes", number, agent) for agent in range(recipe.agents)}
        received = {agent: metrics.get("bytes/received", 0.0) for agent, metrics in booked.items()}
        sent = {agent: metrics.get("bytes/sent", 0.0) for agent, metrics in booked.items()}
        found.append(Traffic(number, recipe.agents, agents, round_samples(recipe), received, sent))
    return found


def _own_clock(history: History, recipe: Recipe, fleet: Fleet) -> dict[int, float]:
    """The clock when the last agent was evaluated for a round."""
    if isinstance(recipe.clock, VirtualClockOptions) and recipe_fleet(recipe) != fleet:
        raise TimeError("async_gossip: ran on other devices or links; run it again with these in its clock")
    seconds: dict[int, float] = {}
    for event in history.events("evaluate"):
        now = event.metrics.get("clock", 0.0)
        seconds[event.round] = max(now, seconds.get(event.round, 0.0))
    return seconds
