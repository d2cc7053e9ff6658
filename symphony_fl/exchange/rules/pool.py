"""How `epidemic` turns a set of updates into one change of the shared state, alike on every agent.

A pool takes (round, indices, units on the grid of `ledger.py`) in any order and gives a view that depends on the
set of what it took alone, to the last bit.

 - agents: sum of all updates / N. Nothing has to wait; late updates count whenever they come.
 - senders: per round and entry, the sum divided by the number of agents that sent that entry. An entry that one
   agent moved keeps its whole move, which matters for sparse updates (prototype: 0.732 against 0.65 at 5 %).
 - median, trimmed: per round and entry over the agents heard from, an entry not sent counting as 0; one hostile
   agent in four cannot move the median far. Hidden minorities lose too: what only one agent moved is dropped.

Rounds stay open until all N agents were heard or they are older than the window; closed ones are summed up. Two
agents agree exactly as soon as they have had the same updates, none of them later than the window.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from symphony_fl.exchange.merge import MergeError


class Pool(Protocol):
    """A set of updates and what follows from it."""

    def add(self, round: int, indices: np.ndarray, units: np.ndarray) -> None:
        """Takes one update: int64 [k] and int64 [k]. Never twice the same; who calls sees to that."""
        ...

    def close(self, before: int) -> None:
        """Sums up open rounds older than `before`."""
        ...

    def view(self) -> np.ndarray:
        """The change of the shared state in grid units, float64 [P]."""
        ...

    def state(self) -> dict[str, np.ndarray]: ...

    def load_state(self, state: Mapping[str, np.ndarray]) -> None: ...


class MeanOfAgents:
    """Everything is summed at once and divided by N at the end."""

    def __init__(self, size: int, agents: int) -> None:
        self.agents = agents
        self.total = np.zeros(size, dtype=np.int64)

    def add(self, round: int, indices: np.ndarray, units: np.ndarray) -> None:
        self.total[indices] += units

    def close(self, before: int) -> None:
        return None

    def view(self) -> np.ndarray:
        return self.total.astype(np.float64) / self.agents

    def state(self) -> dict[str, np.ndarray]:
        return {"total": self.total}

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        self.total = np.array(state["total"])


@dataclass
class _Open:
    """A round that may still receive: sum and number of senders per entry, and how many agents were heard."""

    sums: np.ndarray
    counts: np.ndarray
    heard: int = 0


class MeanOfSenders:
    """Per round and entry the mean over those who sent it."""

    def __init__(self, size: int, agents: int) -> None:
        self.size = size
        self.agents = agents
        self.total = np.zeros(size, dtype=np.int64)
        self.open: dict[int, _Open] = {}

    def add(self, round: int, indices: np.ndarray, units: np.ndarray) -> None:
        entry = self.open.setdefault(
            round, _Open(np.zeros(self.size, dtype=np.int64), np.zeros(self.size, dtype=np.int32))
        )
        entry.sums[indices] += units
        entry.counts[indices] += 1
        entry.heard += 1
        if entry.heard == self.agents:
            self.total += _mean(self.open.pop(round))

    def close(self, before: int) -> None:
        for round in [round for round in self.open if round < before]:
            self.total += _mean(self.open.pop(round))

    def view(self) -> np.ndarray:
        whole = self.total.copy()
        for entry in self.open.values():
            whole += _mean(entry)
        return whole.astype(np.float64)

    def state(self) -> dict[str, np.ndarray]:
        rounds = sorted(self.open)
        return {
            "total": self.total,
            "open_rounds": np.array([(n, self.open[n].heard) for n in rounds], dtype=np.int64).reshape(-1, 2),
            "open_sums": _stacked([self.open[n].sums for n in rounds], self.size, np.dtype(np.int64)),
            "open_counts": _stacked([self.open[n].counts for n in rounds], self.size, np.dtype(np.int32)),
        }

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        self.total = np.array(state["total"])
        self.open = {
            int(round): _Open(
                np.array(state["open_sums"][place]), np.array(state["open_counts"][place]), int(heard)
            )
            for place, (round, heard) in enumerate(state["open_rounds"])
        }


@dataclass
class _Rows:
    """The updates of one open round, each int64 [P]."""

    rows: list[np.ndarray] = field(default_factory=list)


class Robust:
    """Per round and entry the median, or the mean without the lowest and highest `trim` of the agents.

    Args:
        size: P.
        agents: N.
        trim: share of the agents dropped at each end, at least one; None for the median.
    """

    def __init__(self, size: int, agents: int, trim: float | None) -> None:
        if trim is not None and not 0.0 < trim < 0.5:
            raise MergeError(f"trim={trim}: must be above 0 and below 0.5")
        self.size = size
        self.agents = agents
        self.trim = trim
        self.total = np.zeros(size, dtype=np.int64)
        self.open: dict[int, _Rows] = {}

    def add(self, round: int, indices: np.ndarray, units: np.ndarray) -> None:
        row = np.zeros(self.size, dtype=np.int64)
        row[indices] = units
        entry = self.open.setdefault(round, _Rows())
        entry.rows.append(row)
        if len(entry.rows) == self.agents:
            self.total += self._middle(self.open.pop(round).rows)

    def close(self, before: int) -> None:
        for round in [round for round in self.open if round < before]:
            self.total += self._middle(self.open.pop(round).rows)

    def view(self) -> np.ndarray:
        whole = self.total.copy()
        for entry in self.open.values():
            whole += self._middle(entry.rows)
        return whole.astype(np.float64)

    def _middle(self, rows: list[np.ndarray]) -> np.ndarray:
        """The middle of [n, P], int64 [P]; depends on the set of rows, not on their order."""
        ordered = np.sort(np.stack(rows), axis=0)
        count = len(rows)
        cut = (count - 1) // 2 if self.trim is None else max(1, int(self.trim * count))
        if 2 * cut >= count:
            cut = (count - 1) // 2
        kept = ordered[cut : count - cut]
        middle: np.ndarray = kept.sum(axis=0) // kept.shape[0]
        return middle

    def state(self) -> dict[str, np.ndarray]:
        rounds = sorted(self.open)
        return {
            "total": self.total,
            "open_rounds": np.array([(n, len(self.open[n].rows)) for n in rounds], dtype=np.int64).reshape(
                -1, 2
            ),
            "open_rows": _stacked(
                [row for n in rounds for row in self.open[n].rows], self.size, np.dtype(np.int64)
            ),
        }

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        self.total = np.array(state["total"])
        self.open, place = {}, 0
        for round, count in state["open_rounds"]:
            rows = [np.array(row) for row in state["open_rows"][place : place + count]]
            self.open[int(round)] = _Rows(rows)
            place += int(count)


def build_pool(name: str, size: int, agents: int, trim: float = 0.25) -> Pool:
    """The pool by its short name: agents, senders, median or trimmed. Raises MergeError for another."""
    if name == "agents":
        return MeanOfAgents(size, agents)
    if name == "senders":
        return MeanOfSenders(size, agents)
    if name in ("median", "trimmed"):
        return Robust(size, agents, None if name == "median" else trim)
    raise MergeError(f"combine={name!r}: must be one of agents, senders, median, trimmed")


def _mean(entry: _Open) -> np.ndarray:
    """Sum over count where somebody sent, rounded to the grid; whole-number arithmetic, so alike everywhere."""
    counts = np.maximum(entry.counts, 1)
    mean: np.ndarray = (entry.sums + counts // 2) // counts
    return mean


def _stacked(rows: list[np.ndarray], size: int, dtype: np.dtype) -> np.ndarray:
    return np.stack(rows).astype(dtype) if rows else np.zeros((0, size), dtype=dtype)
