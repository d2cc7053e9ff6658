"""How much executor time an agent spends on each neighbour's tasks: an account per sender, kept in the home.

A sender's debt is the seconds its tasks ran here. What is left of ``SECONDS`` is what its next letter may take, and
with every round of this agent's own a debt falls by ``REGAINED``. A letter that uses up what it may take is a letter of
programs that hang: its author's debt becomes ``OVERDRAWN``, so that nothing of it is run for eight rounds, and little
for some more.

Seconds are measured, so accounts differ between machines. What honest agents get does not: a task that its sender could
share ended within the sender's own limit, usually after a thousandth of it, and a round gives back more than a letter
of such tasks takes.
"""

from __future__ import annotations

from clients.home.state_file import State
from symphony_fl.learning.executors.allowance import Allowance

SECONDS = 2.0
REGAINED = 0.25
OVERDRAWN = 2 * SECONDS


def allowance_of(state: State, sender: str) -> Allowance:
    """What a letter of that did:key may take now."""
    return Allowance(SECONDS - _debt(state, sender))


def charge(state: State, sender: str, seconds: float, overdrawn: bool) -> None:
    """Note what a letter took, and whether that was all it might."""
    debt = OVERDRAWN if overdrawn else min(OVERDRAWN, _debt(state, sender) + seconds)
    state.debts[sender] = [state.round, round(debt, 3)]


def _debt(state: State, sender: str) -> float:
    noted, debt = state.debts.get(sender, (state.round, 0.0))
    return max(0.0, debt - REGAINED * (state.round - noted))
