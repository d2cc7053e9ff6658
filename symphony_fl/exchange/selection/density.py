"""How many entries travel in a round: the density p of eq. 3, constant or changing with the round (RQ3)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np


class DensityError(ValueError):
    """A density outside (0, 1]; the message names the field and its value."""


class Density(Protocol):
    """A schedule of densities.

    `scheduled` is True where every agent can derive the density from the round alone; only then can a receiver
    insist on the number of entries, and only then may a cyclic selection use it.
    """

    @property
    def scheduled(self) -> bool: ...

    def at(self, round: int) -> float:
        """The density of a round, in (0, 1]."""
        ...


def _checked(name: str, value: float) -> float:
    if not (isinstance(value, int | float) and 0.0 < value <= 1.0):
        raise DensityError(f"{name}={value}: must be above 0 and at most 1")
    return float(value)


@dataclass(frozen=True)
class Constant:
    """The same density in every round."""

    density: float
    scheduled: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _checked("density", self.density)

    def at(self, round: int) -> float:
        return self.density


@dataclass(frozen=True)
class LinearDecay:
    """From `start` to `end` on a straight line over `rounds` rounds, `end` from then on."""

    start: float
    end: float
    rounds: int
    scheduled: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _checked("start", self.start)
        _checked("end", self.end)
        if self.rounds < 1:
            raise DensityError(f"rounds={self.rounds}: must be at least 1")

    def at(self, round: int) -> float:
        done = min(1.0, round / self.rounds)
        return self.start + (self.end - self.start) * done


@dataclass(frozen=True)
class ExponentialDecay:
    """`start` times `factor` per round, never below `floor` (deep gradient compression warms up like this)."""

    start: float
    factor: float
    floor: float
    scheduled: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _checked("start", self.start)
        _checked("factor", self.factor)
        _checked("floor", self.floor)

    def at(self, round: int) -> float:
        return max(self.floor, self.start * self.factor**round)


def count_of(density: float, size: int) -> int:
    """k, the entries that travel: p P rounded to the nearest, at least 1."""
    return min(size, max(1, math.floor(density * size + 0.5)))


class Adaptive:
    """More entries where neighbours are far apart, fewer where they agree (RQ3).

    After each merge the agent reports the drift it saw (distance to its neighbours over distance moved); the density is
    multiplied by (drift / target) ^ gain and kept between `low` and `high`. Each agent has its own, so a receiver reads
    the number of entries from the envelope; a cyclic selection cannot use it.

    State: `value` float64 [1], the density of the next round.
    """

    scheduled: ClassVar[bool] = False

    def __init__(self, start: float, low: float, high: float, target: float, gain: float = 0.5) -> None:
        for name, value in (("start", start), ("low", low), ("high", high)):
            _checked(name, value)
        if not low <= start <= high:
            raise DensityError(f"start={start}: must be between low={low} and high={high}")
        if not (target > 0 and gain > 0):
            raise DensityError(f"target={target}, gain={gain}: must be above 0")
        self.low = low
        self.high = high
        self.target = target
        self.gain = gain
        self.value = np.array([start], dtype=np.float64)

    def at(self, round: int) -> float:
        return float(self.value[0])

    def observe(self, drift: float) -> None:
        """Notes the drift of a round, at least 0 and finite; else DensityError."""
        if not 0 <= drift < math.inf:
            raise DensityError(f"drift={drift}: must be at least 0 and finite")
        factor = min(4.0, max(0.25, drift / self.target)) ** self.gain
        self.value[0] = min(self.high, max(self.low, self.value[0] * factor))


def density_for_budget(budget: int, size: int, bits: float, shared: bool, overhead: int = 160) -> Constant:
    """The largest density whose envelope stays within `budget` bytes per round.

    Parameters
    ----------
    budget : bytes of one envelope, all included.
    size : P.
    bits : of a value under the run's codec, its share of the scales included.
    shared : True where no index travels; else each costs the entropy of a random subset and 0.1 bits.
    overhead : bytes of header, signature and the scales' rounding up.

    Raises
    ------
    DensityError
        Not even one entry fits.
    """
    low, high = 0, size
    while (
        low < high
    ):  # the cost grows with k, except for indices near k = P, where it may fall: still a safe answer
        middle = (low + high + 1) // 2
        if overhead + middle * (bits + (0.0 if shared else _index_bits(middle, size))) / 8 <= budget:
            low = middle
        else:
            high = middle - 1
    if low < 1:
        raise DensityError(f"budget={budget}: no entry fits beside {overhead} bytes of header and signature")
    return Constant(low / size)


def _index_bits(count: int, size: int) -> float:
    p = count / size
    entropy = 0.0 if count == size else -(p * math.log2(p) + (1 - p) * math.log2(1 - p)) / p
    return entropy + 0.1
