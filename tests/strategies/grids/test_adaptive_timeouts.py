"""Deadlines follow what an agent needs, are not moved by one bad night, and double with every failure."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strategies.grids.adaptive_timeouts import ENOUGH, FIRST_SECONDS, OTHERS, REMEMBERED, AdaptiveTimeouts


def test_who_has_not_answered_enough_gets_some_of_what_the_slowest_took() -> None:
    timeouts = AdaptiveTimeouts(6.0, 5.0, 3600.0)
    assert timeouts.of(0, "train", 0) == FIRST_SECONDS and timeouts.of(0, "train", 1) == 2 * FIRST_SECONDS
    for _ in range(ENOUGH - 1):
        timeouts.answered(0, "train", 10.0)
    assert timeouts.of(0, "train", 0) == OTHERS * 10.0
    timeouts.answered(0, "train", 10.0)
    assert timeouts.of(0, "train", 0) == pytest.approx(16.0), "10 + 6 times a tenth of 10, the least spread"
    timeouts.answered(1, "train", 25.0)
    assert timeouts.of(2, "train", 0) == OTHERS * 25.0, "of whoever took longest"
    assert timeouts.of(0, "evaluate", 0) == FIRST_SECONDS
    assert AdaptiveTimeouts(6.0, 5.0, 60.0).of(0, "train", 0) == 60.0, "and never more than the most"


def test_median_and_deviation_by_hand_and_one_night_asleep_changes_nothing() -> None:
    timeouts = AdaptiveTimeouts(2.0, 1.0, 1e6)
    for seconds in (10.0, 20.0, 30.0, 40.0, 50.0):
        timeouts.answered(3, "train", seconds)
    assert timeouts.of(3, "train", 0) == pytest.approx(30 + 2 * 10)
    before = timeouts.of(3, "train", 0)
    timeouts.answered(3, "train", 30_000.0)
    assert timeouts.of(3, "train", 0) < 2 * before


def test_failures_double_it_up_to_the_most_and_an_agent_slow_for_good_is_believed() -> None:
    timeouts = AdaptiveTimeouts(6.0, 5.0, 600.0)
    for _ in range(ENOUGH):
        timeouts.answered(0, "train", 10.0)
    assert [timeouts.of(0, "train", n) for n in range(4)] == pytest.approx([16, 32, 64, 128])
    assert timeouts.of(0, "train", 10_000) == 600.0
    for _ in range(REMEMBERED):
        timeouts.answered(0, "train", 100.0)
    assert timeouts.of(0, "train", 0) == pytest.approx(160.0)


@given(st.lists(st.floats(0, 1e5), min_size=1, max_size=40), st.integers(0, 50), st.floats(0.1, 100))
def test_it_stays_within_its_bounds(seconds: list[float], failures: int, k: float) -> None:
    timeouts = AdaptiveTimeouts(k, 5.0, 600.0)
    for value in seconds:
        timeouts.answered(0, "train", value)
    assert 5.0 <= timeouts.of(0, "train", failures) <= 600.0
    assert timeouts.of(0, "train", failures) <= timeouts.of(0, "train", failures + 1)
