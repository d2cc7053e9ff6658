"""A clock that moves only while somebody sleeps, so that waiting costs a test nothing and can be told to the second."""

from __future__ import annotations


class StoppedClock:
    """For what takes a `clock` and a `sleep`: give it the object and its method.

    Attributes
    ----------
    now : seconds since it was made
    """

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
