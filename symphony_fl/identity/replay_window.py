"""Which updates were already received: duplicate suppression for rules whose mail comes twice, in any order."""

from __future__ import annotations

import numpy as np


class ReplayWindow:
    """Per sender the newest round and the older ones that are still missing, none older than `window` rounds.

    The memory is bounded: at most `window` rounds per sender, whatever comes.
    """

    def __init__(self, window: int) -> None:
        if window < 0:
            raise ValueError(f"window={window}: must be at least 0")
        self.window = window
        self.newest: dict[int, int] = {}
        self.missing: dict[int, set[int]] = {}

    def is_new(self, sender: int, round: int) -> bool:
        """True where this update was not received before and may still count."""
        return round > self.newest.get(sender, -1) or round in self.missing.get(sender, ())

    def add(self, sender: int, round: int) -> bool:
        """Record an update; False where it was already received or is too old."""
        if not self.is_new(sender, round):
            return False
        newest = self.newest.get(sender, -1)
        missing = self.missing.setdefault(sender, set())
        if round > newest:
            self.newest[sender] = round
            missing.update(range(max(newest + 1, round - self.window, 0), round))
            missing.difference_update([old for old in missing if old < round - self.window])
        missing.discard(round)
        return True

    def state(self) -> np.ndarray:
        """int64 [n, 2] of (sender, round): each sender's newest, then as (sender, -1 - round) what it misses."""
        rows = [(sender, newest) for sender, newest in sorted(self.newest.items())]
        rows += [
            (sender, -1 - old) for sender in sorted(self.missing) for old in sorted(self.missing[sender])
        ]
        return np.array(rows, dtype=np.int64).reshape(-1, 2)

    def load_state(self, rows: np.ndarray) -> None:
        """Brings back what `state` gave."""
        pairs = [(int(sender), int(round)) for sender, round in rows]
        self.newest = {sender: round for sender, round in pairs if round >= 0}
        self.missing = {sender: set() for sender in self.newest}
        for sender, round in pairs:
            if round < 0:
                self.missing[sender].add(-1 - round)
