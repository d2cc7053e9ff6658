"""Staleness counted in the receiver's own rounds, and the weight that goes with it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from symphony_fl.exchange.staleness import staleness, staleness_weight


def test_agents_in_step_are_never_stale_and_a_slow_sender_is_by_the_rounds_it_took() -> None:
    assert [staleness(round, round - 1) for round in range(1, 5)] == [0, 0, 0, 0]
    assert staleness(1, 0) == 0, "the first update of all"
    assert staleness(10, 0) == 9
    assert staleness(7, 7) == 0, "two of one sender in one delivery"


def test_the_weight_by_hand() -> None:
    assert [staleness_weight(s, 0.5, 8) for s in (0, 3, 8, 9)] == pytest.approx([1, 1 / 2, 1 / 3, 0])
    assert staleness_weight(5, 0.0, 8) == 1.0


@given(st.integers(0, 10_000), st.floats(0, 10), st.integers(0, 1000))
def test_it_is_a_weight_and_falls(stale: int, power: float, most: int) -> None:
    weight = staleness_weight(stale, power, most)
    assert 0.0 <= staleness_weight(stale + 1, power, most) <= weight <= 1.0
