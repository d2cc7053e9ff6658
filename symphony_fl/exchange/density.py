"""How many entries travel in a round: the density p of eq. 3, constant or changing with the round (RQ3)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Protocol


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
