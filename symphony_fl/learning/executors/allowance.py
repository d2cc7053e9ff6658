"""Seconds of executor time that several batches of untrusted programs may take together."""

from __future__ import annotations


class Allowance:
    """What is left of it. Charged is the time programs ran, not the starts of processes, so that an honest program's
    share is the same thousandth of it on a busy machine.

    Parameters
    ----------
    seconds : at first.
    within : another allowance that is charged too, and never exceeded.
    """

    def __init__(self, seconds: float, within: Allowance | None = None) -> None:
        self._left = seconds
        self._within = within

    @property
    def left(self) -> float:
        """Seconds, 0 when it is used up."""
        own = max(0.0, self._left)
        return own if self._within is None else min(own, self._within.left)

    def spend(self, seconds: float) -> None:
        """Charge what was spent."""
        self._left -= seconds
        if self._within is not None:
            self._within.spend(seconds)
