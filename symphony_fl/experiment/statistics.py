"""Means over seeds and what is known of them: 95 % intervals by Student's t, paired differences."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import mean, stdev

from scipy.stats import t as student

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A mean over n seeds and the half width of its 95 % confidence interval; None with a single seed."""

    mean: float
    half: float | None
    n: int


def estimate(values: Iterable[float]) -> Estimate | None:
    """Mean +- t(0.975, n - 1) s / sqrt(n), s the sample standard deviation; None without a value."""
    found = list(values)
    if not found:
        return None
    if len(found) == 1:
        return Estimate(found[0], None, 1)
    factor = float(student.ppf((1 + CONFIDENCE) / 2, len(found) - 1))
    return Estimate(mean(found), factor * stdev(found) / math.sqrt(len(found)), len(found))


def paired(values: Mapping[int, float], others: Mapping[int, float]) -> Estimate | None:
    """Mean of value - other over the seeds that both have, which start from the same model and see the same held-out
    tasks; None where they share none."""
    return estimate(values[seed] - others[seed] for seed in sorted(values.keys() & others.keys()))


def spread(values: Iterable[float]) -> float | None:
    """Sample standard deviation; None of fewer than two values."""
    found = list(values)
    return stdev(found) if len(found) > 1 else None
