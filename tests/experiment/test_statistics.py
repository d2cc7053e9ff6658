"""Intervals and paired differences by hand (t tables: t(0.975, 2) = 4.302653, t(0.975, 1) = 12.706205)."""

from __future__ import annotations

import math

import pytest

from symphony_fl.experiment.statistics import estimate, paired, spread


def test_interval_of_three_seeds() -> None:
    found = estimate([0.8, 0.9, 1.0])
    assert found is not None and found.n == 3
    assert found.mean == pytest.approx(0.9)
    assert found.half == pytest.approx(4.302653 * 0.1 / math.sqrt(3), rel=1e-6)


def test_one_seed_has_no_interval_and_none_no_mean() -> None:
    found = estimate([0.5])
    assert found is not None and found.half is None
    assert estimate([]) is None


def test_differences_are_paired_by_seed() -> None:
    found = paired({0: 0.9, 1: 0.7, 5: 0.1}, {1: 0.5, 0: 0.8, 7: 0.0})
    assert found is not None and found.n == 2
    assert found.mean == pytest.approx(0.15)
    assert found.half == pytest.approx(12.706205 * 0.0707107 / math.sqrt(2), rel=1e-5)
    assert paired({0: 1.0}, {1: 1.0}) is None


def test_spread() -> None:
    assert spread([1.0, 3.0]) == pytest.approx(math.sqrt(2))
    assert spread([1.0]) is None
