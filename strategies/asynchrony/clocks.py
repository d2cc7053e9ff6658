"""Two clocks for one loop: when does a job that an agent has begun count as finished?

`VirtualClock` is a conservative parallel discrete-event simulation (Chandy and Misra 1979; Fujimoto 1990): a job's
virtual end is known when it begins, so jobs are carried out in parallel as fast as the machine allows, and their
replies are taken in the order of virtual ends. A job begins when all that ended before has been taken, so what an agent
is given does not depend on how long anything really took: the same recipe and seed give the same numbers.

`WallClock` takes replies in the order of their arrival.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from typing import Protocol

from symphony_fl.simulation.device_profiles import Fleet


class Clock(Protocol):
    """Says which answers may be taken now."""

    @property
    def now(self) -> float:
        """Seconds since the run began."""
        ...

    def begin(self, agent: int, round: int, at: float | None = None, received: int = 0) -> None:
        """An agent has begun its round of that number, now or at another time, with so many bytes of mail; 0 for what
        takes no time."""
        ...

    def weigh(self, agent: int, sent: int) -> None:
        """The agent has answered, with so many bytes for its neighbours: to be said before its job may end."""
        ...

    def set_aside(self, agent: int) -> None:
        """Stop waiting for this agent's job; if it is answered later, it ends then."""
        ...

    def ready(self, answered: Collection[int]) -> list[int]:
        """Of the agents whose jobs have been answered (in order of arrival) those whose jobs end now, in the order
        in which they are to be taken. Those are forgotten here."""
        ...


class VirtualClock:
    """Time that passes from one job's end to the next.

    A job lasts as long as the way of its mail, the round, and the way of what the agent shares. What that weighs is
    known with the answer; until then the job ends no earlier than without it, so nothing later is taken before. An
    evaluation takes no time: the way of the mail that comes with it is part of the next round.

    Parameters
    ----------
    seconds : (agent, round) -> virtual seconds of a round
    fleet : the agents' links and outages; None: transfers take no time, and every agent is always online
    """

    def __init__(self, seconds: Callable[[int, int], float], fleet: Fleet | None = None) -> None:
        self.now = 0.0
        self._seconds = seconds
        self._fleet = fleet
        self._ends: dict[int, float] = {}
        self._jobs: dict[int, tuple[float, float]] = {}  # agent -> start and seconds of what is in _ends
        self._owed: dict[int, int] = {}  # agent -> bytes of mail whose way has taken no time yet

    def begin(self, agent: int, round: int, at: float | None = None, received: int = 0) -> None:
        start = self.now if at is None else at
        owed = self._owed.pop(agent, 0) + received
        if not round:
            self._owed[agent] = owed
            self._ends[agent] = start
            return
        way = 0.0 if self._fleet is None else self._fleet.agents[agent].download(owed)
        self._jobs[agent] = (start, way + self._seconds(agent, round))
        self._ends[agent] = self._end(agent, 0)

    def weigh(self, agent: int, sent: int) -> None:
        if agent in self._ends and agent in self._jobs:
            self._ends[agent] = self._end(agent, sent)

    def _end(self, agent: int, sent: int) -> float:
        start, seconds = self._jobs[agent]
        if self._fleet is None:
            return start + seconds
        return self._fleet.end(agent, start, seconds + self._fleet.agents[agent].upload(sent))

    def set_aside(self, agent: int) -> None:
        self._ends.pop(agent, None)
        self._jobs.pop(agent, None)

    def ready(self, answered: Collection[int]) -> list[int]:
        """All whose jobs end at the next instant, by agent number, once every one of them has answered."""
        late = sorted(agent for agent in answered if agent not in self._ends)
        if late or not self._ends:
            return late
        instant = min(self._ends.values())
        ending = sorted(agent for agent, end in self._ends.items() if end == instant)
        if not set(ending) <= set(answered):
            return []
        self.now = max(self.now, instant)
        for agent in ending:
            self.set_aside(agent)
        return ending

    def behind_barrier(self, agents: int, rounds: int) -> float:
        """Seconds that many rounds take with a round barrier, each as long as its slowest agent; without transfers
        and outages."""
        return sum(
            max(self._seconds(agent, round) for agent in range(agents)) for round in range(1, rounds + 1)
        )


class WallClock:
    """Real time.

    Parameters
    ----------
    passed : seconds the run had taken before it was resumed
    time_source : seconds on some clock that never goes back
    """

    def __init__(self, passed: float = 0.0, time_source: Callable[[], float] = time.monotonic) -> None:
        self._time = time_source
        self._start = time_source() - passed

    @property
    def now(self) -> float:
        return self._time() - self._start

    def begin(self, agent: int, round: int, at: float | None = None, received: int = 0) -> None:
        return None

    def weigh(self, agent: int, sent: int) -> None:
        return None

    def set_aside(self, agent: int) -> None:
        return None

    def ready(self, answered: Collection[int]) -> list[int]:
        return list(answered)
