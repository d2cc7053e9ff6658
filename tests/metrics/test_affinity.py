"""Capability vectors, affinity and diversity against hand-computed figures."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from symphony_fl.learning.memory.episodes import Counts
from symphony_fl.metrics.affinity import (
    Capability,
    affinity,
    diversity,
    specialisation,
    wilson,
)

SCORES = arrays(np.float64, array_shapes(min_dims=2, max_dims=2, max_side=6), elements=st.floats(0, 1))


def test_wilson_by_hand() -> None:
    """8 of 10 at z = 2: centre (0.8 + 4 / 20) / 1.4, half width 2 / 1.4 sqrt(0.016 + 0.01)."""
    found = wilson(Counts(10, 8), z=2.0)
    assert (found.score, found.attempts) == (0.8, 10)
    assert found.low == pytest.approx(1 / 1.4 - 2 / 1.4 * np.sqrt(0.026))
    assert found.high == pytest.approx(1 / 1.4 + 2 / 1.4 * np.sqrt(0.026))


def test_nothing_tried_nothing_known() -> None:
    assert wilson(Counts(0, 0)) == Capability(0.5, 0.0, 1.0, 0)


@given(st.floats(0, 1), st.floats(0.01, 1e6), st.floats(0.1, 5))
def test_the_interval_holds_the_rate_and_narrows(rate: float, attempts: float, z: float) -> None:
    few, many = (
        wilson(Counts(attempts, rate * attempts), z),
        wilson(Counts(4 * attempts, 4 * rate * attempts), z),
    )
    assert 0 <= few.low <= few.score <= few.high <= 1 and few.low < few.high
    assert many.high - many.low < few.high - few.low


def test_wilson_covers_what_it_says() -> None:
    """About 95 of 100 intervals hold the true rate."""
    rng = np.random.default_rng(0)
    solved = rng.binomial(40, 0.15, size=4000)
    found = [wilson(Counts(40, int(count))) for count in solved]
    assert 0.93 < np.mean([one.low <= 0.15 <= one.high for one in found]) < 0.97


@pytest.mark.parametrize(
    "counts", [Counts(1, 2), Counts(1, -1), Counts(float("inf"), 1), Counts(float("nan"), 0)]
)
def test_impossible_counts_are_refused(counts: Counts) -> None:
    with pytest.raises(ValueError, match="solved = .* of attempts"):
        wilson(counts)


def test_affinity_is_the_distance_to_the_mean() -> None:
    assert affinity(np.array([[1.0, 0.2], [0.5, 0.4]])).tolist() == pytest.approx(
        np.array([[0.25, -0.1], [-0.25, 0.1]])
    )


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([[0.9, 0.3], [0.3, 0.1]], 0.0),  # the same profile at two levels
        ([[0.7, 0.0], [0.0, 0.2]], 1.0),  # disjoint
        ([[0.7, 0.7, 0.0, 0.0], [0.0, 0.0, 0.3, 0.3]], 1.0),
        ([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]], 1.0),  # more agents than skills, shared out evenly
        ([[1.0, 0.0], [0.5, 0.5]], (-0.75 * np.log(0.75) - 0.25 * np.log(0.25)) / np.log(2) - 0.5),
        ([[0.0, 0.0], [0.4, 0.4]], 0.0),  # good at nothing: uniform
        ([[0.3, 0.9]], 0.0),
        ([[0.3], [0.9]], 0.0),
    ],
)
def test_diversity_by_hand(rows: list[list[float]], expected: float) -> None:
    assert diversity(np.array(rows)) == pytest.approx(expected, abs=1e-12)


def test_specialisation_by_hand() -> None:
    found_N = specialisation(np.array([[0.4, 0.4, 0.4, 0.4], [0.0, 0.3, 0.0, 0.0], [0.5, 0.5, 0.0, 0.0]]))
    assert found_N.tolist() == pytest.approx([0.0, 1.0, 0.5])
    assert specialisation(np.array([[0.4], [0.0]])).tolist() == [0.0, 0.0]


@given(SCORES)
def test_diversity_knows_no_order_and_has_bounds(scores_NS: np.ndarray) -> None:
    rng = np.random.default_rng(0)
    shuffled_NS = rng.permutation(rng.permutation(scores_NS, axis=0), axis=1)
    assert 0 <= diversity(scores_NS) <= 1
    assert diversity(shuffled_NS) == pytest.approx(diversity(scores_NS), abs=1e-9)
    assert np.allclose(affinity(scores_NS).sum(axis=0), 0)
    assert ((specialisation(scores_NS) > -1e-9) & (specialisation(scores_NS) < 1 + 1e-9)).all()


@pytest.mark.parametrize("scores", [np.zeros(3), np.zeros((0, 2)), np.array([[1.5]]), np.array([[np.nan]])])
def test_improper_scores_are_refused(scores: np.ndarray) -> None:
    with pytest.raises(ValueError, match="scores: "):
        diversity(scores)
