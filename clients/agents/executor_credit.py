"""How much executor time an agent spends on each neighbour's tasks: an account per sender, kept in the home.

A sender's debt is the seconds its tasks ran here. Its next task message may use ``SECONDS`` less that debt, and each
round of this agent lowers every debt by ``REGAINED``. A task message that uses up its allowance is taken to hold
programs that hang: its author's debt becomes ``OVERDRAWN``. Then none of that author's tasks run for eight rounds, and
the rounds after that allow them little time.

Seconds are measured, so accounts differ between machines. What honest senders get does not differ: a task can be
shared only if it ended within the sender's own limit, and it usually took a thousandth of that. One round gives back
more than a message of such tasks uses.
"""

from __future__ import annotations

from clients.home.state_file import State
from symphony_fl.learning.executors.allowance import Allowance

SECONDS = 2.0
REGAINED = 0.25
OVERDRAWN = 2 * SECONDS


def allowance_of(state: State, sender: str) -> Allowance:
    """The executor time that a task message of this did:key may use now."""
    return Allowance(SECONDS - _debt(state, sender))


def charge(state: State, sender: str, seconds: float, overdrawn: bool) -> None:
    """Record the time a task message used, and whether it used up its allowance."""
    debt = OVERDRAWN if overdrawn else min(OVERDRAWN, _debt(state, sender) + seconds)
    state.debts[sender] = [state.round, round(debt, 3)]


def _debt(state: State, sender: str) -> float:
    noted, debt = state.debts.get(sender, (state.round, 0.0))
    return max(0.0, debt - REGAINED * (state.round - noted))
