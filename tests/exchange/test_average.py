"""`average`: the two-agent truth test, consensus on the true mean, and what an absence or a restart may not change."""

from __future__ import annotations

import numpy as np
import pytest
from combinations import combinations

from symphony_fl.exchange.codecs.codec import build_codec
from symphony_fl.exchange.flat import Layout
from symphony_fl.exchange.rules import RULES
from symphony_fl.exchange.rules.average import Average
from symphony_fl.exchange.rules.rule import MergeError, Received
from symphony_fl.exchange.selection.selection import build_selection
from symphony_fl.exchange.topology import Topology, build_topology

F = np.float32


def test_two_agents_one_round_by_hand() -> None:
    """w = 1/2 on the one edge: theta_0 + 0.5 (theta_1 - theta_0), each operation in float32, to the last bit."""
    theta = [np.array([0.1, -2.7, 3.3e-8, 1e6], dtype=F), np.array([0.7, 5.1, -4.4e-9, 1.5], dtype=F)]
    everything = np.arange(4)
    rules = [Average(4), Average(4)]
    for rule, own in zip(rules, theta, strict=True):
        rule.record(own, everything, own.copy(), round=0)
    merged = [
        rules[me].merge(theta[me], [Received(1 - me, 0.5, 0, everything, theta[1 - me])], round=1)
        for me in (0, 1)
    ]
    for me in (0, 1):
        by_hand = [F(theta[me][n]) + F(0.5) * (F(theta[1 - me][n]) - F(theta[me][n])) for n in range(4)]
        assert merged[me].tobytes() == np.array(by_hand, dtype=F).tobytes()


def test_three_agents_sum_in_ascending_order_of_the_senders() -> None:
    rng = np.random.default_rng(0)
    theta = [rng.standard_normal(50).astype(F) for _ in range(3)]
    rule = Average(50, alpha=0.7)
    rule.record(theta[1], np.arange(50), theta[1], round=4)
    third = 1 / 3
    received = [
        Received(2, third, 4, np.arange(50), theta[2]),
        Received(0, third, 4, np.arange(50), theta[0]),
    ]
    move = np.zeros(50, dtype=F)
    for sender in (0, 2):
        move += F(0.7 * third) * (theta[sender] - theta[1])
    assert rule.merge(theta[1], received, round=5).tobytes() == (theta[1] + move).tobytes()


def _gossip(
    topology: Topology, theta: list[np.ndarray], selection: str, density: float, coding: str, rounds: int
) -> None:
    """Rounds of exchange without learning, in place."""
    size = theta[0].size
    chosen = build_selection(selection, Layout(("a",), ((size,),)), density, seed=3)
    codec = build_codec(coding, 32)
    rules = [Average(size) for _ in theta]
    for round in range(rounds):
        sent = []
        for rule, own in zip(rules, theta, strict=True):
            offer = rule.offer(rule.start(own))
            indices = chosen.select(offer.score, round)
            decoded = codec.decode(codec.encode(offer.values[indices]), indices.size)
            rule.record(own, indices, decoded, round)
            sent.append((indices, decoded))
        for me, rule in enumerate(rules):
            weights = topology.weights(me, round)
            mail = [Received(j, weights[j], round, *sent[j]) for j in topology.neighbours(me, round)]
            theta[me] = rule.merge(theta[me], mail, round + 1)


SELECTIONS = (("dense", 1.0), ("random", 0.2), ("cyclic", 0.2))
CODINGS = ("float32", "bfloat16", "int8")
GRAPHS = ("ring", "one_peer_exponential", "fresh_k_regular")


@pytest.mark.parametrize(("chosen", "coding", "name"), combinations(SELECTIONS, CODINGS, GRAPHS))
def test_repeated_merging_reaches_the_true_mean(chosen: tuple[str, float], coding: str, name: str) -> None:
    selection, density = chosen
    rng = np.random.default_rng(1)
    theta = [rng.standard_normal(100).astype(F) for _ in range(8)]
    mean = np.mean(theta, axis=0, dtype=np.float64)
    topology = build_topology(name, 8)
    _gossip(
        topology,
        theta,
        selection,
        density,
        coding,
        rounds=int(60 / density * (1.4 if selection == "random" else 1)),
    )
    # The mean is kept whatever the coding; each agent ends within a few steps of the codec around it.
    assert np.abs(np.mean(theta, axis=0, dtype=np.float64) - mean).max() < 2e-5
    step = float(build_codec(coding, 32).bound(mean.astype(F)).max())
    assert max(np.abs(own - mean).max() for own in theta) <= 4 * step + 2e-5


def test_a_mutually_absent_neighbour_leaves_the_mean_unharmed() -> None:
    rng = np.random.default_rng(2)
    theta = [rng.standard_normal(20).astype(F) for _ in range(3)]
    mean = np.mean(theta, axis=0, dtype=np.float64)
    everything = np.arange(20)
    rules = [Average(20) for _ in theta]
    for rule, own in zip(rules, theta, strict=True):
        rule.record(own, everything, own, 0)
    mail = {0: [1], 1: [0], 2: []}  # agent 2 is away: nobody hears it, it hears nobody
    merged = [
        rules[me].merge(theta[me], [Received(j, 1 / 3, 0, everything, theta[j]) for j in mail[me]], 1)
        for me in range(3)
    ]
    assert np.allclose(np.mean(merged, axis=0, dtype=np.float64), mean, atol=1e-6)
    assert np.array_equal(merged[2], theta[2])


def test_only_the_newest_update_of_a_sender_counts() -> None:
    rule = Average(3)
    theta = np.zeros(3, dtype=F)
    rule.record(theta, np.arange(3), theta, 2)
    old = Received(1, 0.5, 1, np.arange(3), np.full(3, 8, dtype=F))
    new = Received(1, 0.5, 2, np.arange(3), np.full(3, 2, dtype=F))
    assert rule.merge(theta, [new, old], 3).tolist() == [1, 1, 1]


def test_state_survives_a_restart() -> None:
    rng = np.random.default_rng(3)
    theta = rng.standard_normal(30).astype(F)
    rule, other = Average(30), Average(30)
    indices = np.arange(0, 30, 3)
    rule.record(theta, indices, theta[indices] + F(0.01), 5)
    other.load_state({name: array.copy() for name, array in rule.state.items()})
    mail = [Received(1, 0.4, 5, indices, rng.standard_normal(10).astype(F))]
    assert other.merge(theta, mail, 6).tobytes() == rule.merge(theta, mail, 6).tobytes()
    with pytest.raises(MergeError, match="public"):
        Average(29).load_state(rule.state)


def test_every_rule_is_listed_and_refuses_a_wrong_alpha() -> None:
    assert "average" in RULES
    for alpha in (0.0, -1.0, 1.5, float("nan")):
        with pytest.raises(MergeError, match="alpha"):
            Average(3, alpha=alpha)
