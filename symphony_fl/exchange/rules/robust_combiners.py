"""Pools for `epidemic` that no hostile minority can pull far (what a pool is: `combiners.py`).

- clip: as agents, once every update longer than `clip` times the round's lower median length is cut to that, so that
  one sender cannot outweigh the others (norm clipping, Sun et al. 2019, "Can You Really Backdoor Federated Learning?";
  the median as in ClippedGossip's adaptive radius, see `robust.py`). Agents need not move the same entries.
  Then a sign test between every two updates: on the entries that both moved, how much more often their signs agree than
  a fair coin's would, in its standard deviations. What agrees with the median one of the others by less than
  `agreement` does not count in that round. The median, since hostile agents that send the same agree perfectly with
  one another. At -3 what contradicts the others is left out: flipped signs are as long as honest ones, and only this
  finds them, while agents that learn different things agree as often as not, and stay. Where all agents learn the
  same, 2 also leaves out what is unrelated.
- median, trimmed: per round and entry over the agents heard from, an entry not sent counting as 0; one hostile
  agent in four cannot move the median far. Hidden minorities lose too: what only one agent moved is dropped.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from symphony_fl.exchange.rules.combiners import Combiner, MeanOfAgents, MeanOfSenders
from symphony_fl.exchange.rules.rule import MergeError


@dataclass
class _Update:
    """One update of an open round and its length."""

    indices: np.ndarray
    units: np.ndarray

    @cached_property
    def length(self) -> float:
        return _length(self.units)


class _OpenRounds(ABC):
    """A pool that needs all updates of a round at once: keeps them until all N agents were heard or it is closed.

    Parameters
    ----------
    size : P.
    agents : N.
    """

    def __init__(self, size: int, agents: int) -> None:
        self.size = size
        self.agents = agents
        self.total = np.zeros(size, dtype=np.int64)
        self.open: dict[int, list[_Update]] = {}

    @abstractmethod
    def _change(self, updates: list[_Update]) -> np.ndarray:
        """What a round's updates come to, int64 [P]; depends on the set of them, not on their order."""

    def add(self, round: int, indices: np.ndarray, units: np.ndarray) -> None:
        updates = self.open.setdefault(round, [])
        updates.append(_Update(indices, units))
        if len(updates) == self.agents:
            self.total += self._change(self.open.pop(round))

    def close(self, before: int) -> None:
        for round in [round for round in self.open if round < before]:
            self.total += self._change(self.open.pop(round))

    def view(self) -> np.ndarray:
        whole = self.total.copy()
        for updates in self.open.values():
            whole += self._change(updates)
        return whole.astype(np.float64)

    def state(self) -> dict[str, np.ndarray]:
        rounds = sorted(self.open)
        updates = [update for number in rounds for update in self.open[number]]
        sizes = [(n, update.indices.size) for n in rounds for update in self.open[n]]
        empty = np.zeros(0, dtype=np.int64)
        return {
            "total": self.total,
            "open_sizes": np.array(sizes, dtype=np.int64).reshape(-1, 2),
            "open_indices": np.concatenate([empty, *(update.indices for update in updates)]),
            "open_units": np.concatenate([empty, *(update.units for update in updates)]),
        }

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        self.total = np.array(state["total"])
        self.open, start = {}, 0
        for round, count in state["open_sizes"]:
            part = slice(start, start + int(count))
            indices, units = np.array(state["open_indices"][part]), np.array(state["open_units"][part])
            self.open.setdefault(int(round), []).append(_Update(indices, units))
            start += int(count)


class Clip(_OpenRounds):
    """The mean over all agents of updates that do not contradict the others, none longer than `factor` times the
    round's lower median one.

    Parameters
    ----------
    size : P.
    agents : N.
    factor : above 0.
    agreement : least agreement with the others, in standard deviations of a fair coin.
    """

    def __init__(self, size: int, agents: int, factor: float, agreement: float = -3.0) -> None:
        if not 0.0 < factor < float("inf"):
            raise MergeError(f"clip={factor}: must be above 0")
        super().__init__(size, agents)
        self.factor = factor
        self.agreement = agreement

    def view(self) -> np.ndarray:
        return super().view() / self.agents

    def _change(self, updates: list[_Update]) -> np.ndarray:
        """The sum of a round's updates, the long ones cut. Alike everywhere: lengths are sums of whole numbers, and
        square roots, quotients and products are rounded as IEEE 754 says."""
        ordered = sorted(update.length for update in updates)
        most = self.factor * ordered[(len(ordered) - 1) // 2]
        cut = [
            update.units
            if update.length <= most
            else np.rint(update.units * (most / update.length)).astype(np.int64)
            for update in updates
        ]
        agreements = _agreements(self.size, updates)
        counted = [
            (update, units)
            for update, units, found in zip(updates, cut, agreements, strict=True)
            if len(updates) < 3 or found >= self.agreement
        ]
        total = np.zeros(self.size, dtype=np.int64)
        for update, units in counted:  # those who count stand in for those who do not
            total[update.indices] += np.rint(units * (len(updates) / len(counted))).astype(np.int64)
        return total


class Robust(_OpenRounds):
    """Per round and entry the median, or the mean without the lowest and highest `trim` of the agents.

    Parameters
    ----------
    size : P.
    agents : N.
    trim : share of the agents dropped at each end, at least one; None for the median.
    """

    def __init__(self, size: int, agents: int, trim: float | None) -> None:
        if trim is not None and not 0.0 < trim < 0.5:
            raise MergeError(f"trim={trim}: must be above 0 and below 0.5")
        super().__init__(size, agents)
        self.trim = trim

    def _change(self, updates: list[_Update]) -> np.ndarray:
        """The middle of the updates as rows [n, P], an entry not sent counting as 0."""
        count = len(updates)
        rows = np.zeros((count, self.size), dtype=np.int64)
        for row, update in zip(rows, updates, strict=True):
            row[update.indices] = update.units
        ordered = np.sort(rows, axis=0)
        cut = (count - 1) // 2 if self.trim is None else max(1, int(self.trim * count))
        if 2 * cut >= count:
            cut = (count - 1) // 2
        kept = ordered[cut : count - cut]
        middle: np.ndarray = kept.sum(axis=0) // kept.shape[0]
        return middle


def _agreements(size: int, updates: list[_Update]) -> list[float]:
    """Of each update, its sign agreement with the median one of the others (the upper, of an even number)."""
    signs = [np.sign(update.units).astype(np.int8) for update in updates]
    found = np.zeros((len(updates), len(updates)))
    for row, update in enumerate(updates):
        here = np.zeros(size, dtype=np.int8)
        here[update.indices] = signs[row]
        for column in range(row):
            products = here[updates[column].indices] * signs[column]
            compared = int(np.count_nonzero(products))
            if compared:
                found[row, column] = found[column, row] = int(products.sum()) / math.sqrt(compared)
    others = [np.sort(np.delete(found[row], row)) for row in range(len(updates))]
    return [float(row[len(row) // 2]) if len(row) else 0.0 for row in others]


def _length(units: np.ndarray) -> float:
    """The Euclidean length, alike on every machine: the 19 leading bits of the largest entry and what others have in
    their places are squared and summed as whole numbers (2^24 squares fit 63 bits), whatever the order of sums."""
    magnitudes = np.abs(units)
    shift = max(0, int(magnitudes.max(initial=0)).bit_length() - 19)
    coarse = magnitudes >> shift
    return math.sqrt(int(np.sum(coarse * coarse))) * 2.0**shift


def build_combiner(
    name: str, size: int, agents: int, trim: float = 0.25, clip: float = 1.0, agreement: float = -3.0
) -> Combiner:
    """The pool by its short name: agents, senders, clip, median or trimmed. Raises MergeError for another."""
    if name == "agents":
        return MeanOfAgents(size, agents)
    if name == "senders":
        return MeanOfSenders(size, agents)
    if name == "clip":
        return Clip(size, agents, clip, agreement)
    if name in ("median", "trimmed"):
        return Robust(size, agents, None if name == "median" else trim)
    raise MergeError(f"combine={name!r}: must be one of agents, senders, clip, median, trimmed")
