"""Faults at random times: what is done when comes from a seed; what came of it is written down."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from chaos_world import World
from faults import Fault


@dataclass
class Done:
    """A fault that was done. Seconds are those of `time.time`, which is also the run's history's.

    Attributes
    ----------
    agent : whose device it hit; None for the network
    begun, ended : when it was done and undone
    back : when the agent's next report was booked (of the network: anybody's); None if none was
    """

    fault: Fault
    agent: int | None
    begun: float
    ended: float | None = None
    back: float | None = None
    _until: float = 0.0


class Storm:
    """Does one fault after the other: all kinds in a random order, then all again.

    Parameters
    ----------
    world : the network
    kinds : of faults
    seed : of order, times, targets and durations
    pause : mean seconds from one fault to the next
    """

    def __init__(self, world: World, kinds: Sequence[Fault], seed: int, pause: float) -> None:
        self.world = world
        self.done: list[Done] = []
        self._rng = random.Random(seed)
        self._pause = pause
        self._kinds = self._cycle(kinds)
        self._next = next(self._kinds)
        self._when = time.time() + self._gap()

    def turn(self, calm: bool) -> None:
        """Do what is due. When it is to be `calm` everything is undone and nothing new done."""
        now = time.time()
        for one in self.done:
            if one.ended is None and (calm or now >= one._until):
                self._end(one)
        if not calm and now >= self._when:
            self._when = now + self._gap()
            self._begin(self._next)

    def report(self, agent: int, at: float) -> None:
        """An agent's report was booked."""
        for one in self.done:
            if one.back is None and one.ended is not None and at > one.ended and one.agent in (None, agent):
                one.back = at

    def table(self) -> list[dict[str, Any]]:
        """A row per kind: how often it was done, on how many the agents came back, after how many seconds."""
        rows = []
        for name in sorted({one.fault.name for one in self.done}):
            these = [one for one in self.done if one.fault.name == name]
            waits = [one.back - one.ended for one in these if one.back is not None and one.ended is not None]
            rows.append(
                {
                    "fault": name,
                    "done": len(these),
                    "back_in_run": len(waits),
                    "median_s": round(median(waits), 1) if waits else None,
                    "longest_s": round(max(waits), 1) if waits else None,
                }
            )
        return rows

    def _begin(self, fault: Fault) -> None:
        hit = {one.agent for one in self.done if one.ended is None}
        free = [number for number in range(self.world.agents) if number not in hit]
        if not fault.network and not free:
            return  # every device has a fault already; this one comes next time
        target = self._rng.choice(free) if free else 0
        if not fault.does(self.world, target, self._rng):
            return
        now = time.time()
        done = Done(
            fault, None if fault.network else target, now, _until=now + self._rng.uniform(*fault.hold)
        )
        self.done.append(done)
        self._next = next(self._kinds)
        print(f"chaos: {fault.name}" + ("" if fault.network else f", agent {target}"), flush=True)
        if fault.undoes is None:
            done.ended = now

    def _end(self, one: Done) -> None:
        if one.fault.undoes is not None and one.agent is not None:
            one.fault.undoes(self.world, one.agent)
        one.ended = time.time()

    def _gap(self) -> float:
        return self._rng.uniform(0.5, 1.5) * self._pause

    def _cycle(self, kinds: Sequence[Fault]) -> Iterator[Fault]:
        while True:
            yield from self._rng.sample(list(kinds), len(kinds))
