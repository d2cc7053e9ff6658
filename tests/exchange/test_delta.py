"""Eq. 4: where it diverges and where it does not."""

from __future__ import annotations

import numpy as np
import pytest
from gossip_network import F, Network, one_mail, quadratic, still

from symphony_fl.exchange.rules import build_rule
from symphony_fl.exchange.topology import build_topology


@pytest.mark.parametrize(
    ("scaling", "rate", "diverges"), [("sum", 0.7, True), ("sum", 0.5, False), ("mixing", 0.7, False)]
)
def test_naive_eq_4_diverges_where_the_theory_says(scaling: str, rate: float, diverges: bool) -> None:
    """On a ring (d = 2) summed deltas multiply an error by 1 - 3 h: unstable for h > 2/3. Mixing weights never are."""
    size = 8
    network = Network(
        [build_rule("delta", size, scaling=scaling) for _ in range(6)], build_topology("ring", 6), size
    )
    goals = np.ones((6, size), dtype=F)
    for round in range(60):
        network.round(round, quadratic(goals, rate))
    error = float(np.abs(np.stack(network.theta) - 1).max())
    assert error > 1e2 if diverges else error < 1e-3


def test_deltas_alone_never_pull_agents_together() -> None:
    network = Network([build_rule("delta", 4) for _ in range(4)], build_topology("full", 4), 4)
    network.round(0, still)
    for me in range(4):
        network.theta[me] = np.full(4, float(me), dtype=F)
    for round in range(1, 50):
        network.round(round, still)
    assert network.spread() == 1.5


def test_momentum_applies_every_change_once() -> None:
    rule = build_rule("delta", 1, momentum=0.8)
    theta = rule.start(np.zeros(1, dtype=F))
    theta = one_mail(rule, theta, np.ones(1, dtype=F), 0.25)
    first = float(theta[0])
    for round in range(2, 100):
        theta = rule.merge(theta, [], round)
    assert first == pytest.approx(0.05)
    assert float(theta[0]) == pytest.approx(0.25, rel=1e-4)
