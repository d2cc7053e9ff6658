"""Duplicate suppression."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from symphony_fl.identity.replay_window import ReplayWindow


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 30)), max_size=80), st.integers(0, 10))
def test_seen_takes_every_update_once_and_survives(pairs: list[tuple[int, int]], window: int) -> None:
    seen, had = ReplayWindow(window), set()
    for sender, round in pairs:
        newest = max((r for s, r in had if s == sender), default=-1)
        expected = (sender, round) not in had and round >= newest - window
        copy = ReplayWindow(window)
        copy.load_state(seen.state())
        assert seen.is_new(sender, round) == copy.is_new(sender, round) == expected
        assert seen.add(sender, round) == expected
        if expected:
            had.add((sender, round))
        assert all(len(rounds) <= window for rounds in seen.missing.values())
