"""The shared reward: windows and delays by hand, any order, restarts, refusals, and what a liar can do."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from symphony_fl.exchange.messages.header import RewardReport
from symphony_fl.learning.rl.shared_reward import AHEAD, MAX_COUNT, SharedReward, trimmed_mean

SKILLS = ("add", "sort")
TRIMS = st.one_of(st.none(), st.floats(0.01, 0.49))
UNIT = st.floats(0, 1)


def _shared(
    agents: int = 3, window: int = 2, delay: int = 1, trim: float | None = None, number: int = 0
) -> SharedReward:
    return SharedReward(number, agents, SKILLS, window, delay, trim)


def _earned(mean: float, count: int = 1, name: str = "add") -> list[RewardReport]:
    return [RewardReport(name, mean, count)]


def test_a_window_and_its_delay_by_hand() -> None:
    """One agent earns 0, 1/2, 1 in rounds 1 to 3. A window of 2 that ends a round ago slides over them."""
    shared = _shared(window=2, delay=1)
    for round, mean in ((1, 0.0), (2, 0.5), (3, 1.0)):
        assert not shared.hear(0, round, _earned(mean))
    assert [shared.value(round) for round in range(1, 7)] == [None, 0.0, 0.25, 0.75, 1.0, None]


def test_without_delay_the_round_itself_counts() -> None:
    shared = _shared(window=1, delay=0)
    shared.hear(0, 0, _earned(0.25))
    assert (shared.value(0), shared.value(1)) == (0.25, None)


def test_rounds_weigh_by_their_tasks_and_agents_equally() -> None:
    shared = _shared(agents=2)
    shared.hear(0, 1, _earned(1.0, 3))
    shared.hear(0, 2, _earned(0.0, 1))  # 3 of 4
    shared.hear(1, 2, _earned(0.25, 1000))
    assert shared.value(3) == (0.75 + 0.25) / 2


def test_skills_apart_and_together() -> None:
    shared = _shared()
    shared.hear(1, 1, [RewardReport("add", 1.0, 1), RewardReport("sort", 0.0, 3)])
    assert (shared.value(2, "add"), shared.value(2, "sort"), shared.value(2)) == (1.0, 0.0, 0.25)
    assert _shared().value(2, "add") is None
    with pytest.raises(ValueError, match="skill = 'fly': must be one of add, sort"):
        shared.value(2, "fly")


def test_an_agent_not_heard_of_a_skill_has_no_voice_in_it() -> None:
    shared = _shared()
    shared.hear(0, 1, _earned(0.5))
    shared.hear(1, 1, _earned(1.0, name="sort"))
    shared.hear(2, 1, [])
    assert shared.value(2, "add") == 0.5


@pytest.mark.parametrize(
    ("values", "trim", "expected"),
    [
        ([0.25], None, 0.25),
        ([0.0, 1.0], 0.25, 0.5),
        ([0.0, 0.25, 1.0], 0.01, 0.25),  # at least one
        ([1.0, 0.0, 0.25, 0.75], None, 0.5),
        ([0.0, 0.5, 0.25, 0.75, 1.0, 1.0, 1.0, 0.0], 0.25, (0.25 + 0.5 + 0.75 + 1.0) / 4),
        ([0.0, 0.0, 0.5, 1.0, 1.0], 0.49, 0.5),
    ],
)
def test_trimmed_means_by_hand(values: list[float], trim: float | None, expected: float) -> None:
    assert trimmed_mean(np.array(values), trim) == expected


@given(st.lists(UNIT, min_size=1, max_size=12))
def test_the_median_is_the_median(values: list[float]) -> None:
    assert trimmed_mean(np.array(values), None) == pytest.approx(float(np.median(values)), abs=1e-15)


def _limits(others: Sequence[float], trim: float | None) -> tuple[float, float]:
    """The docstring's interval: h_0 = 0 and h_n = 1 stand for a liar at either end."""
    n = len(others) + 1
    c = (n - 1) // 2 if trim is None else min(max(1, math.floor(trim * n)), (n - 1) // 2)
    h = [0.0, *sorted(others), 1.0]
    low, high = np.mean(h[c : n - c]), np.mean(h[c + 1 : n - c + 1])
    assert high - low == pytest.approx((h[n - c] - h[c]) / (n - 2 * c), abs=1e-12)
    return float(low), float(high)


@given(
    st.lists(UNIT, min_size=1, max_size=9),
    st.lists(st.tuples(st.floats(width=32), st.integers(-5, 1 << 40)), max_size=4),
    TRIMS,
)
def test_a_liar_stays_between_the_others(
    others: list[float], lies: list[tuple[float, int]], trim: float | None
) -> None:
    """Whatever it reports in however many rounds: infinities, absurd counts, nothing at all."""
    shared = _shared(len(others) + 1, window=4, delay=1, trim=trim)
    honest = [float(np.float32(value)) for value in others]
    for sender, value in enumerate(honest, start=1):
        shared.hear(sender, 4, _earned(value, 7))
    for round, (mean, count) in enumerate(lies, start=1):
        shared.hear(0, round, _earned(mean, count))
    low, high = _limits(honest, trim)
    found = shared.value(5)
    assert found is not None and low - 1e-12 <= found <= high + 1e-12


@pytest.mark.parametrize(("trim", "agents"), [(None, 5), (0.25, 8), (0.01, 4), (None, 2)])
@pytest.mark.parametrize("lie", [-1e6, 1e6])
def test_the_bound_is_reached(trim: float | None, agents: int, lie: float) -> None:
    """A liar that reports a million moves the value as far as is said, so no smaller bound is true."""
    others = [float(np.float32(value)) for value in np.linspace(0.2, 0.8, agents - 1)]
    shared = _shared(agents, trim=trim)
    for sender, value in enumerate(others, start=1):
        shared.hear(sender, 1, _earned(value))
    shared.hear(0, 1, _earned(lie))
    assert shared.value(2) == pytest.approx(_limits(others, trim)[lie > 0], abs=1e-12)


CALLS = st.lists(
    st.tuples(st.integers(0, 2), st.integers(0, 12), UNIT, st.integers(1, 9), st.sampled_from(SKILLS)),
    unique_by=lambda call: call[:2],
    max_size=20,
)


@given(CALLS, st.randoms(use_true_random=False), st.integers(1, 4), st.integers(0, 3), TRIMS)
def test_order_and_repetition_do_not_matter(
    calls: list[tuple[int, int, float, int, str]],
    random: Random,
    window: int,
    delay: int,
    trim: float | None,
) -> None:
    """To the bit, in the state and so in every value; and as a list of all that was said gives it."""
    ordered, mixed = _shared(3, window, delay, trim), _shared(3, window, delay, trim)
    shuffled = [*calls, *calls]
    random.shuffle(shuffled)
    for shared, told in ((ordered, calls), (mixed, shuffled)):
        for sender, round, mean, count, name in told:
            shared.hear(sender, round, _earned(mean, count, name))
    for name, array in ordered.state().items():
        np.testing.assert_array_equal(mixed.state()[name], array)
    for round in range(18):
        expected = _plainly(calls, round, window, delay, trim)
        assert ordered.value(round) == (None if expected is None else pytest.approx(expected, abs=1e-6))


def _plainly(
    calls: list[tuple[int, int, float, int, str]], round: int, window: int, delay: int, trim: float | None
) -> float | None:
    """The definition, from everything that was said."""
    found = []
    for agent in range(3):
        newest = max((at for sender, at, *_ in calls if sender == agent), default=0)
        inside = [
            (mean, count)
            for sender, at, mean, count, _ in calls
            if sender == agent
            and round - delay - window < at <= round - delay
            and at > newest - window - delay
        ]
        if inside:
            found.append(sum(m * c for m, c in inside) / sum(c for _, c in inside))
    return trimmed_mean(np.array(found), trim) if found else None


def test_the_first_report_of_a_round_stands() -> None:
    shared = _shared()
    shared.hear(1, 1, _earned(0.25))
    assert shared.hear(1, 1, _earned(1.0, 100)) == Counter(repeated=1)
    assert shared.hear(1, 1, _earned(1.0, 100, "sort")) == Counter(repeated=1)
    assert shared.value(2) == 0.25


def test_what_is_ignored_is_counted_by_reason() -> None:
    shared = _shared()
    reports = [
        RewardReport("add", math.nan, 1),
        RewardReport("add", math.inf, 1),
        RewardReport("add", 0.5, 0),
        RewardReport("add", 0.5, MAX_COUNT + 1),
        RewardReport("fly", 0.5, 1),
        RewardReport("add", 0.5, MAX_COUNT),
        RewardReport("add", 0.75, 1),
    ]
    expected = {"not_finite": 2, "bad_count": 2, "unknown_skill": 1, "same_skill": 1}
    assert shared.hear(1, 1, reports) == expected
    assert shared.value(2) == 0.5


def test_reports_are_clipped_to_what_a_reward_can_be() -> None:
    shared = _shared(agents=2)
    shared.hear(0, 1, [RewardReport("add", 1e300, 1), RewardReport("sort", -1e300, 1)])
    assert (shared.value(2, "add"), shared.value(2, "sort")) == (1.0, 0.0)


def test_rounds_that_cannot_be_are_refused() -> None:
    shared = _shared(window=2, delay=1)
    shared.hear(0, 10, _earned(0.5))
    assert shared.hear(3, 10, _earned(0.5)) == shared.hear(-1, 10, _earned(0.5)) == Counter(unknown_sender=1)
    assert shared.hear(1, 10 + AHEAD + 1, _earned(0.5)) == Counter(absurd=1)
    assert shared.hear(1, -1, _earned(0.5)) == shared.hear(0, -1, _earned(0.5)) == Counter(absurd=1)
    assert shared.hear(0, 7, _earned(0.5)) == Counter(old=1)
    assert not shared.hear(0, 8, _earned(0.5))
    assert not shared.hear(1, 10 + AHEAD, _earned(0.5))


def test_a_sender_in_the_future_harms_only_its_own_voice() -> None:
    shared = _shared()
    for sender, value in ((0, 0.25), (1, 0.5), (2, 0.75)):
        shared.hear(sender, 1, _earned(value))
    shared.hear(1, AHEAD, _earned(1.0))
    assert shared.value(2) == 0.5 and not shared.hear(2, 2, _earned(0.75))
    shared.hear(2, AHEAD - 1, _earned(1.0))
    assert shared.value(2) == 0.25


def test_after_a_long_absence_of_ones_own_others_are_heard_again() -> None:
    shared = _shared()
    far = 3 * AHEAD
    assert shared.hear(1, far, _earned(0.5)) == Counter(absurd=1)
    assert not shared.hear(0, far, _earned(0.5))
    assert not shared.hear(1, far, _earned(0.5))


@given(CALLS, st.integers(0, 20))
def test_a_restart_changes_nothing(calls: list[tuple[int, int, float, int, str]], killed: int) -> None:
    whole = _shared()
    shared = _shared()
    for place, (sender, round, mean, count, name) in enumerate(calls):
        if place == killed:
            kept, shared = shared.state(), _shared()
            shared.load_state(kept)
        for one in (whole, shared):
            one.hear(sender, round, _earned(mean, count, name))
    assert [shared.value(round) for round in range(15)] == [whole.value(round) for round in range(15)]
    for name, array in whole.state().items():
        np.testing.assert_array_equal(shared.state()[name], array)


def test_the_state_is_a_copy_both_ways_and_does_not_grow() -> None:
    shared = _shared(agents=2, window=2, delay=1)
    before = shared.state()
    for round in range(50):
        shared.hear(1, round, _earned(1.0))
    after = shared.state()
    assert before["counts"].sum() == 0 and after["counts"].sum() == 3
    layout = {name: (array.dtype.name, array.shape) for name, array in after.items()}
    assert layout == {
        "rounds": ("int64", (2, 3)), "counts": ("int32", (2, 3, 2)), "means": ("float32", (2, 3, 2)),
    }  # fmt: skip
    fresh = _shared(agents=2, window=2, delay=1)
    fresh.load_state(after)
    after["means"][:] = 0
    assert fresh.value(50) == 1.0


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"means": np.zeros((3, 3, 2))}, "'means' is float64"),
        (
            {"rounds": np.zeros((3, 4), dtype=np.int64)},
            r"'rounds' is int64 \(3, 4\), expected int64 \(3, 3\)",
        ),
        ({"more": np.zeros(1)}, "state has .*'more'"),
    ],
)
def test_a_state_of_another_run_is_refused_whole(changed: dict[str, np.ndarray], message: str) -> None:
    shared = _shared()
    other = _shared()
    other.hear(1, 1, _earned(0.5))
    with pytest.raises(ValueError, match=message):
        shared.load_state(other.state() | changed)
    assert shared.value(2) is None


@pytest.mark.parametrize(
    ("number", "agents", "skills", "window", "delay", "trim", "message"),
    [
        (3, 3, SKILLS, 1, 1, None, r"number = 3: must be in 0\.\.2"),
        (-1, 3, SKILLS, 1, 1, None, "number = -1"),
        (0, 3, (), 1, 1, None, "skills = none"),
        (0, 3, ("add", "add"), 1, 1, None, "skills = add, add"),
        (0, 3, SKILLS, 0, 1, None, "window = 0"),
        (0, 3, SKILLS, 1, -1, None, "delay = -1"),
        (0, 3, SKILLS, 1, 1, 0.5, "trim = 0.5"),
        (0, 3, SKILLS, 1, 1, 0.0, "trim = 0.0"),
        (0, 3, SKILLS, 1, 1, math.nan, "trim = nan"),
    ],
)
def test_parameters_out_of_range_are_refused(
    number: int,
    agents: int,
    skills: tuple[str, ...],
    window: int,
    delay: int,
    trim: float | None,
    message: str,
) -> None:
    with pytest.raises(ValueError, match=message):
        SharedReward(number, agents, skills, window, delay, trim)
