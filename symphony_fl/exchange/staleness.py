"""How stale an update is, and the weight it gets: for agents without a round barrier.

Xie, Koyejo and Gupta 2019, "Asynchronous Federated Optimization" (FedAsync, arXiv 1903.03934, section 5.2): the
polynomial weight (1 + s)^-a with s the number of model versions since the sender began. There a server counts versions;
here every receiver counts its own rounds. It cannot see when a sender began. But an agent begins its next round when
its last one is done, which is when its mail arrives. So work on an update began when the one before it arrived.

    s = own rounds since the sender's previous update was merged - 1, at least 0

With a round barrier s is always 0. No part of it is taken on trust: no sender states its own staleness. The first
update of a sender counts from the run's start, even where the sender joined late: that one update then weighs little or
nothing.
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
