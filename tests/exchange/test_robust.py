"""Robust variants over a simulated network with attackers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from gossip_network import F, Network, noise, quadratic, still

from symphony_fl.exchange.rules import build_rule
from symphony_fl.exchange.rules.rule import Received, Rule
from symphony_fl.exchange.topology import build_topology


def _damage(robust: str, attack: Callable[[np.ndarray], np.ndarray], name: str = "average") -> float:
    """Distance of the honest agents from their common goal, with one of eight hostile."""
    size = 20
    network = Network(
        [build_rule(name, size, robust=robust, number=me, agents=8) for me in range(8)],
        build_topology("full", 8),
        size,
    )
    goals = np.ones((8, size), dtype=F)
    honest = quadratic(goals, 0.3)
    for round in range(1, 60):
        network.round(round, lambda me, theta: attack(theta) if me == 7 else honest(me, theta))
    return float(np.abs(np.stack(network.theta[:7]) - 1).max())


@pytest.mark.parametrize(
    "attack", [lambda theta: np.full_like(theta, -100), lambda theta: (-3 * theta - 5).clip(-1e4, 1e4)]
)
def test_robust_variants_hold_where_the_plain_rule_breaks(attack: Callable[[np.ndarray], np.ndarray]) -> None:
    assert _damage("none", attack) > 1
    for robust in ("clip", "median", "trimmed"):
        assert _damage(robust, attack) < 0.7
    for robust in ("median", "trimmed"):
        assert _damage(robust, attack, "epidemic") < 0.1
    assert _damage("clip", attack, "epidemic") < _damage("none", attack, "epidemic") / 3


def test_clipping_bounds_what_one_sender_moves() -> None:
    rule = build_rule("average", 4, robust="clip", clip=1.0)
    theta = rule.start(np.zeros(4, dtype=F)) + F(0.5)  # moved by a norm of 1
    rule.record(theta, np.arange(4), theta, 1)
    near = Received(1, 0.25, 1, np.arange(4), theta + F(0.1))
    far = Received(2, 0.25, 1, np.arange(4), theta + F(1000))
    moved = rule.merge(theta, [near, far], 1) - theta
    assert np.linalg.norm(moved) <= 0.25 * 0.2 + 0.25 * 1.0 + 1e-6
    assert np.array_equal(
        rule.merge(theta, [near], 1), build_with_record("average", theta).merge(theta, [near], 1)
    )


def build_with_record(name: str, theta: np.ndarray) -> Rule:
    rule = build_rule(name, theta.size)
    rule.record(theta, np.arange(theta.size), theta, 1)
    return rule


def test_without_attackers_the_median_still_reaches_agreement() -> None:
    network = Network(
        [build_rule("average", 10, robust="median") for _ in range(5)], build_topology("full", 5), 10
    )
    network.round(0, noise(3, 10))
    for round in range(1, 40):
        network.round(round, still)
    assert network.spread() < 1e-5
