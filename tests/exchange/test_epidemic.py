"""The shared state: the same bits everywhere, whatever the order, the graph and its gaps."""

from __future__ import annotations

import numpy as np
import pytest
from gossip_network import F, Network, noise, still
from hypothesis import given
from hypothesis import strategies as st

from symphony_fl.exchange.rules import RULES, build_rule
from symphony_fl.exchange.rules.rule import Received, Rule
from symphony_fl.exchange.topology import build_topology


def _epidemic(agents: int, size: int, **options: object) -> list[Rule]:
    return [build_rule("epidemic", size, number=me, agents=agents, **options) for me in range(agents)]  # type: ignore[arg-type]


@pytest.mark.parametrize("combine", ["senders", "agents", "clip", "median", "trimmed"])
@pytest.mark.parametrize("name", ["ring", "full", "k_regular"])
def test_all_agents_hold_the_same_bits_once_all_mail_has_arrived(combine: str, name: str) -> None:
    size = 40
    options = {"combine": combine} if combine in ("senders", "agents") else {"robust": combine}
    network = Network(
        _epidemic(6, size, **options),
        build_topology(name, 6),
        size,
        selection="topk",
        density=0.2,
        coding="int4",
    )
    learn = noise(6, size)
    for round in range(1, 8):
        network.round(round, learn)
    for round in range(
        8, 14
    ):  # let the last updates travel; agents learn nothing, but their residuals still leave
        network.round(round, still)
    for _ in range(6):
        flood(network)
    states = [rule.shared().tobytes() for rule in network.rules]  # type: ignore[attr-defined]
    assert len(set(states)) == 1
    assert np.abs(network.theta[0]).max() > 0


def flood(network: Network) -> None:
    """Delivers what is under way, without a new round."""
    delivered = network.waiting
    network.waiting = {}
    for (_, receiver), mail in sorted(delivered.items(), reverse=True):
        network._deliver(receiver, mail, 13)


def test_a_partition_of_ten_rounds_heals_and_nothing_counts_twice() -> None:
    size = 30

    def edge_up(round: int, i: int, j: int) -> bool:
        return not 5 <= round < 15 or (i < 4) == (j < 4)

    for combine in ("senders", "agents"):
        network = Network(
            _epidemic(8, size, combine=combine),
            build_topology("ring", 8),
            size,
            coding="sign",
            edge_up=edge_up,
        )
        learn = noise(7, size)
        for round in range(1, 16):
            network.round(round, learn)
            if round == 14:
                assert network.spread() > 0.1
        for _ in range(10):
            flood(network)
        assert len({rule.shared().tobytes() for rule in network.rules}) == 1  # type: ignore[attr-defined]
        if combine == "agents":  # what everybody sent, once: sum over agents of (changes - residual)
            total = np.stack([rule.state["pool/total"] for rule in network.rules])
            assert (total == total[0]).all()


@given(st.permutations(list(range(9))), st.sampled_from(["senders", "agents", "clip", "median", "trimmed"]))
def test_the_order_of_arrival_does_not_matter(order: list[int], combine: str) -> None:
    rng = np.random.default_rng(8)
    options = {"combine": combine} if combine in ("senders", "agents") else {"robust": combine}
    updates = [
        Received(
            1 + n % 3,
            0.3,
            n // 3,
            np.arange(n % 2, 12, 2),
            rng.standard_normal(6).astype(F) * F(10.0 ** (n - 4)),
        )
        for n in range(9)
    ]
    first, second = (build_rule("epidemic", 12, agents=4, **options) for _ in range(2))  # type: ignore[arg-type]
    theta = rng.standard_normal(12).astype(F)
    one = first.merge(theta, updates, 3)
    two = theta
    for place in order:
        two = second.merge(theta, [updates[place], updates[order[0]]], 3)  # the first comes again and again
    assert one.tobytes() == two.tobytes()


def test_scalings_by_hand() -> None:
    """Entry 0 from both neighbours, entry 1 from one: mean over senders, and mean over the three agents."""
    updates = [
        Received(1, 0.3, 1, np.array([0, 1]), np.array([3.0, 6.0], dtype=F)),
        Received(2, 0.3, 1, np.array([0]), np.array([1.0], dtype=F)),
    ]
    for combine, expected in (("senders", [2.0, 6.0]), ("agents", [4 / 3, 2.0])):
        rule = build_rule("epidemic", 2, agents=3, combine=combine)
        assert np.allclose(rule.merge(np.zeros(2, dtype=F), updates, 1), expected)
    median = build_rule("epidemic", 2, agents=3, robust="median")
    own = Received(5, 0.3, 1, np.array([0, 1]), np.array([2.0, -1.0], dtype=F))
    assert np.allclose(median.merge(np.zeros(2, dtype=F), [*updates, own], 1), [2.0, 0.0])


def test_no_update_is_longer_than_the_median_one_times_the_clip() -> None:
    """Lengths 3, 4 and 500: the last is cut to twice the lower median's 4, whoever comes first."""
    updates = [
        Received(1, 0.3, 1, np.array([0]), np.array([3.0], dtype=F)),
        Received(2, 0.3, 1, np.array([1]), np.array([-4.0], dtype=F)),
        Received(3, 0.3, 1, np.array([2, 3]), np.array([300.0, 400.0], dtype=F)),
    ]
    for order in (updates, updates[::-1]):
        rule = build_rule("epidemic", 4, agents=4, robust="clip", clip=2.0)
        merged = rule.merge(np.zeros(4, dtype=F), order, 1)
        assert np.allclose(merged, np.array([3.0, -4.0, 4.8, 6.4]) / 4, rtol=1e-5)


@pytest.mark.parametrize("density", [1.0, 0.1])
def test_flipped_signs_are_found_and_different_work_is_not(density: float) -> None:
    """Three agents agree on two entries in three; the fourth sends the opposite, or something of its own."""
    rng = np.random.default_rng(1)
    common = rng.standard_normal(4000)

    def update(sender: int, direction: np.ndarray) -> Received:
        noisy = (direction + rng.standard_normal(4000)).astype(F)
        chosen = np.sort(np.argsort(-np.abs(noisy))[: int(4000 * density)])
        return Received(sender, 0.25, 1, chosen, np.sign(noisy[chosen]).astype(F))

    honest = [update(sender, common) for sender in range(3)]
    other = update(3, np.zeros(4000))
    for fourth, agreement, counts in ((update(3, -common), -3, False), (other, -3, True), (other, 3, False)):
        rule = build_rule("epidemic", 4000, agents=4, number=9, robust="clip", agreement=agreement)
        merged = rule.merge(np.zeros(4000, dtype=F), [*honest, fourth], 1)
        expected = np.zeros(4000)
        for one in [*honest, fourth] if counts else honest:
            expected[one.indices] += one.values / (4 if counts else 3)
        assert np.allclose(merged, expected, atol=1e-6)


def test_colluders_do_not_vouch_for_each_other() -> None:
    """Two of eight send one and the same noise, which agrees perfectly with itself; six agree a little, in pairs."""
    rng = np.random.default_rng(2)
    common, noise = rng.standard_normal(4000), rng.standard_normal(4000)

    def update(sender: int, direction: np.ndarray) -> Received:
        chosen = np.sort(np.argsort(-np.abs(direction))[:400])
        return Received(sender, 0.125, 1, chosen, np.sign(direction[chosen]).astype(F))

    honest = [update(sender, common + rng.standard_normal(4000)) for sender in range(6)]
    rule = build_rule("epidemic", 4000, agents=8, number=9, robust="clip", agreement=2)
    merged = rule.merge(np.zeros(4000, dtype=F), [*honest, update(6, noise), update(7, noise)], 1)
    expected = np.zeros(4000)
    for one in honest:
        expected[one.indices] += one.values / 6
    assert np.allclose(merged, expected, atol=1e-6)


def test_keep_starts_from_what_was_not_sent() -> None:
    for keep in (False, True):
        rule = build_rule("epidemic", 3, agents=2, combine="agents", keep=keep)
        theta = rule.start(np.zeros(3, dtype=F)) + np.array([4.0, 2.0, 1.0], dtype=F)
        rule.record(theta, np.array([0]), np.array([4.0], dtype=F), 1)
        assert rule.start(theta).tolist() == ([2.0, 2.0, 1.0] if keep else [2.0, 0.0, 0.0])
        again = rule.offer(rule.start(theta))
        assert again.values.tolist() == [0.0, 2.0, 1.0]


def test_epidemic_passes_on_within_its_hops() -> None:
    rule = RULES["epidemic"](3, 0, 4, hops=2)
    assert [rule.passes_on(5, round) for round in (5, 6, 7)] == [True, True, False]
