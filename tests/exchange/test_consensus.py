"""Rules that claim it reach the true mean."""

from __future__ import annotations

import numpy as np
import pytest
from gossip_network import F, Network, noise, one_mail, still

from symphony_fl.exchange.rules import build_rule
from symphony_fl.exchange.topology import build_topology


@pytest.mark.parametrize(
    ("name", "selection", "density", "coding", "gamma", "rounds"),
    [
        ("choco", "dense", 1.0, "float32", 1.0, 100),
        ("choco", "dense", 1.0, "sign", 0.4, 300),
        ("choco", "dense", 1.0, "int2", 0.6, 200),
        ("choco", "topk", 0.2, "float32", 0.3, 800),
        pytest.param("choco", "topk", 0.1, "int4", 0.15, 1500, marks=pytest.mark.slow),
        pytest.param("choco", "random", 0.2, "int8", 0.08, 1200, marks=pytest.mark.slow),
    ],
)
def test_choco_reaches_the_true_mean_through_any_compression(
    name: str, selection: str, density: float, coding: str, gamma: float, rounds: int
) -> None:
    size = 60
    network = Network(
        [build_rule(name, size, gamma=gamma) for _ in range(6)],
        build_topology("ring", 6),
        size,
        selection=selection,
        density=density,
        coding=coding,
    )
    network.round(0, noise(1, size))
    started = np.mean(network.theta, axis=0, dtype=np.float64)
    first = network.spread()
    for round in range(1, rounds):
        network.round(round, still)
    assert network.spread() < 1e-3 * first
    assert np.abs(np.mean(network.theta, axis=0, dtype=np.float64) - started).max() < 1e-4


def test_noloco_pairs_agree_and_keep_the_mean() -> None:
    size = 20
    network = Network(
        [build_rule("noloco", size, momentum=0.3, step=1.0, pull=1.0) for _ in range(8)],
        build_topology("random_pairs", 8),
        size,
    )
    network.round(0, noise(2, size))
    # One round of learning, then none: momentum still carries the mean to step / (1 - momentum) times the progress.
    progress = np.mean([rule.state["change"] for rule in network.rules], axis=0, dtype=np.float64)
    for round in range(1, 400):
        network.round(round, still)
    assert network.spread() < 1e-3
    assert np.allclose(np.mean(network.theta, axis=0), progress / (1 - 0.3), atol=1e-3)


def test_noloco_one_round_by_hand() -> None:
    """Two partners, w = 1/2: delta = b mean Delta - g (phi_i - mean phi), from equal phi = 0 here."""
    rule = build_rule("noloco", 2, momentum=0.5, step=0.7, pull=0.9)
    theta = rule.start(np.zeros(2, dtype=F)) + np.array([1.0, -1.0], dtype=F)
    offer = rule.offer(theta)
    rule.record(theta, np.arange(2), offer.values, 1)
    other_change = np.array([3.0, 1.0])
    merged = one_mail(rule, theta, (0.7 / 0.9 * other_change).astype(F), 0.5)
    assert np.allclose(merged, 0.7 * (np.array([1.0, -1.0]) + other_change) / 2)
    alone = build_rule("noloco", 2, momentum=0.5, step=0.7, pull=0.9)
    alone.start(np.zeros(2, dtype=F))
    alone.record(theta, np.arange(2), offer.values, 1)
    assert np.allclose(alone.start(theta), 0.7 * np.array([1.0, -1.0]))
