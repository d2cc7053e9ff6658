"""S(.) of eq. 3: which entries of the adapter travel in a round.

Two kinds. *Shared* selections (dense, random, cyclic) are masks that both ends of an edge derive from (run seed,
round): no index travels, and averaging at the mask preserves the network's mean, which per-sender masks do not.
*Data-dependent* ones (topk, threshold) rank the entries of a score vector, and their indices travel.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from symphony_fl.exchange.flat import Layout
from symphony_fl.exchange.selection.density import Constant, Density, count_of
from symphony_fl.exchange.selection.permutation import permutation_key, permute
from symphony_fl.exchange.selection.topk import above_threshold, largest


class SelectionError(ValueError):
    """A selection that cannot be built or applied; the message names the field, its value and what is allowed."""


class Selection(Protocol):
    """Which entries travel.

    Attributes
    ----------
    name : short name in recipes and, as a code, on the wire.
    shared : True where `indices` derives them at both ends, so that none travels.
    size : P.
    """

    name: str
    shared: bool
    size: int

    def select(self, change: np.ndarray, round: int) -> np.ndarray:
        """The entries to send: int64 [k], ascending, unique, k >= 1.

        Parameters
        ----------
        change : float32 [P]; data-dependent selections rank its magnitudes, shared ones ignore it.
        round : the sender's round.
        """
        ...

    def count(self, round: int) -> int | None:
        """k where the round alone determines it, else None."""
        ...

    def indices(self, round: int, count: int) -> np.ndarray:
        """What a shared selection of `count` entries selects in a round; raises SelectionError if data-dependent."""
        ...


class Dense:
    """Every entry, every round."""

    name = "dense"
    shared = True

    def __init__(self, size: int) -> None:
        self.size = _size(size)

    def select(self, change: np.ndarray, round: int) -> np.ndarray:
        _fits(change, self.size)
        return self.indices(round, self.size)

    def count(self, round: int) -> int | None:
        return self.size

    def indices(self, round: int, count: int) -> np.ndarray:
        if count != self.size:
            raise SelectionError(f"dense: {count} entries of {self.size}")
        return np.arange(self.size, dtype=np.int64)


class Random:
    """k entries drawn without replacement from (run seed, round): SPARTA's mask, with no index on the wire.

    The first k images of a keyed permutation: a smaller mask of the same round is part of a larger one, so agents
    whose densities differ still share the smaller mask.
    """

    name = "random"
    shared = True

    def __init__(self, size: int, density: Density, seed: int) -> None:
        self.size = _size(size)
        self.density = density
        self.seed = seed

    def select(self, change: np.ndarray, round: int) -> np.ndarray:
        _fits(change, self.size)
        return self.indices(round, count_of(self.density.at(round), self.size))

    def count(self, round: int) -> int | None:
        return count_of(self.density.at(round), self.size) if self.density.scheduled else None

    def indices(self, round: int, count: int) -> np.ndarray:
        key = permutation_key(self.seed, 1, round)
        return np.sort(permute(np.arange(count, dtype=np.int64), self.size, key))


class Cyclic:
    """A seeded permutation cut into 1/p chunks taken in turn: every entry travels once per 1/p rounds.

    The chunk of round t starts where that of t-1 ended, so a schedule of densities works too.
    """

    name = "cyclic"
    shared = True

    def __init__(self, size: int, density: Density, seed: int) -> None:
        if not density.scheduled:
            raise SelectionError("cyclic: needs a density that the round alone determines")
        self.size = _size(size)
        self.density = density
        self.seed = seed
        self._starts = [0]

    def select(self, change: np.ndarray, round: int) -> np.ndarray:
        _fits(change, self.size)
        return self.indices(round, self._count(round))

    def count(self, round: int) -> int | None:
        return self._count(round)

    def indices(self, round: int, count: int) -> np.ndarray:
        if count != self._count(round):
            raise SelectionError(f"cyclic: {count} entries where round {round} has {self._count(round)}")
        start = self._start(round)
        positions = (np.arange(start, start + count, dtype=np.int64)) % self.size
        return np.sort(permute(positions, self.size, permutation_key(self.seed, 2)))

    def _count(self, round: int) -> int:
        return count_of(self.density.at(round), self.size)

    def _start(self, round: int) -> int:
        if isinstance(self.density, Constant):
            return round * self._count(0) % self.size
        while len(self._starts) <= round:
            self._starts.append((self._starts[-1] + self._count(len(self._starts) - 1)) % self.size)
        return self._starts[round]


class TopK:
    """The k entries of largest magnitude; of equal ones the lowest index.

    Parameters
    ----------
    size : P.
    density : share of the entries (of each layer, if parts are given).
    parts : slices of the layers for a selection per layer, None for one over all entries.
    """

    name = "topk"
    shared = False

    def __init__(self, size: int, density: Density, parts: tuple[slice, ...] | None = None) -> None:
        self.size = _size(size)
        self.density = density
        self.parts = parts or (slice(0, size),)

    def select(self, change: np.ndarray, round: int) -> np.ndarray:
        _fits(change, self.size)
        density = self.density.at(round)
        found = [
            part.start + largest(change[part], count_of(density, part.stop - part.start))
            for part in self.parts
        ]
        return found[0] if len(found) == 1 else np.concatenate(found)

    def count(self, round: int) -> int | None:
        if not self.density.scheduled:
            return None
        density = self.density.at(round)
        return sum(count_of(density, part.stop - part.start) for part in self.parts)

    def indices(self, round: int, count: int) -> np.ndarray:
        raise SelectionError("topk: indices depend on the data and travel with the update")


class Threshold:
    """Every entry whose magnitude is at least `factor` times the root mean square (of its layer, if parts are given).

    How many travel depends on the data: few when a round moved little out of proportion, many when it moved much
    ("sparse gradient thresholding", section 6.3). At most `density` of the entries, at least one.
    """

    name = "threshold"
    shared = False

    def __init__(
        self, size: int, density: Density, factor: float = 2.0, parts: tuple[slice, ...] | None = None
    ) -> None:
        if not factor > 0:
            raise SelectionError(f"threshold: factor={factor}: must be above 0")
        self.size = _size(size)
        self.density = density
        self.factor = factor
        self.parts = parts or (slice(0, size),)

    def select(self, change: np.ndarray, round: int) -> np.ndarray:
        _fits(change, self.size)
        density = self.density.at(round)
        found = []
        for part in self.parts:
            values = change[part]
            bound = self.factor * float(np.sqrt(np.mean(np.square(values, dtype=np.float64))))
            most = count_of(density, values.size)
            chosen = above_threshold(values, bound) if bound > 0 else np.empty(0, dtype=np.int64)
            if not 1 <= chosen.size <= most:
                chosen = largest(values, most if chosen.size else 1)
            found.append(part.start + chosen)
        return np.concatenate(found)

    def count(self, round: int) -> int | None:
        return None

    def indices(self, round: int, count: int) -> np.ndarray:
        raise SelectionError("threshold: indices depend on the data and travel with the update")


SELECTIONS: dict[str, type[Selection]] = {
    "dense": Dense,
    "random": Random,
    "cyclic": Cyclic,
    "topk": TopK,
    "threshold": Threshold,
}
"""Every selection by its short name."""


def build_selection(
    name: str,
    layout: Layout,
    density: Density | float = 1.0,
    *,
    seed: int = 0,
    per_layer: bool = False,
    factor: float = 2.0,
) -> Selection:
    """The selection of a run.

    Parameters
    ----------
    name : a key of `SELECTIONS`.
    layout : of the adapter; its slices are the layers.
    density : a schedule, or a number in (0, 1] for a constant one; ignored by dense.
    seed : of the run; the same on every agent (random, cyclic).
    per_layer : rank within each named array rather than over all (topk, threshold).
    factor : multiple of the root mean square (threshold).

    Raises
    ------
    SelectionError
        Unknown name;
    DensityError
        Density outside (0, 1].
    """
    if name not in SELECTIONS:
        raise SelectionError(f"selection={name!r}: must be one of {', '.join(SELECTIONS)}")
    schedule = Constant(float(density)) if isinstance(density, int | float) else density
    parts = tuple(part for part in layout.slices().values() if part.stop > part.start) if per_layer else None
    if name == "dense":
        return Dense(layout.size)
    if name == "random":
        return Random(layout.size, schedule, seed)
    if name == "cyclic":
        return Cyclic(layout.size, schedule, seed)
    if name == "topk":
        return TopK(layout.size, schedule, parts)
    return Threshold(layout.size, schedule, factor, parts)


def _size(size: int) -> int:
    if size < 1:
        raise SelectionError(f"size={size}: an adapter has at least one entry")
    return size


def _fits(change: np.ndarray, size: int) -> None:
    if change.shape != (size,):
        raise SelectionError(f"change has shape {change.shape}, expected ({size},)")
