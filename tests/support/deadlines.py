"""What is judged of deadlines by a real clock, in slow tests only."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

MARGIN = 2.5  # the grace of a clean refusal, a new worker's start, and a busy machine


@contextmanager
def in_time(seconds: float, margin: float = MARGIN) -> Iterator[None]:
    """What is done takes no longer, but for the margin."""
    start = time.monotonic()
    yield
    assert time.monotonic() - start < seconds + margin
