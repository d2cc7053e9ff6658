"""How stale an update is, and what it weighs then: for agents whose rounds are not in step.

Xie, Koyejo and Gupta 2019, "Asynchronous Federated Optimization" (FedAsync, arXiv 1903.03934, section 5.2): the
polynomial weight (1 + s)^-a with s the number of model versions since the sender began. There a server counts versions;
here every receiver counts its own rounds. It cannot see when a sender began, but an agent begins its next round when
its last one is done, and then its mail comes: so an update has been in the making since the one before it arrived.

    s = own rounds since the sender's previous update was merged - 1, at least 0

Agents in step have s = 0 always. Nothing of it is taken on trust: no sender states its own staleness. The first update
of a sender counts from the run's start, also where the sender joined late: it then weighs little, or nothing, once.
"""

from __future__ import annotations


def staleness(round: int, heard: int) -> int:
    """s of an update at a receiver that has done `round` rounds, and `heard` when it last merged that sender's."""
    return max(0, round - heard - 1)


def staleness_weight(stale: int, power: float, most: int) -> float:
    """(1 + s)^-a, in (0, 1]; 0 beyond the bound.

    Parameters
    ----------
    stale : s, at least 0.
    power : a, at least 0; 0 weighs all alike.
    most : the bound on s.
    """
    return 0.0 if stale > most else float((1.0 + stale) ** -power)
