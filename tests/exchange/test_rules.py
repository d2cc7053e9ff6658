"""Every rule over a simulated network: consensus, error feedback, absence, restarts, attackers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from symphony_fl.exchange.coding import build_codec
from symphony_fl.exchange.flat import Layout
from symphony_fl.exchange.ledger import UNIT, Feedback, to_grid
from symphony_fl.exchange.merge import MergeError, Received, Rule
from symphony_fl.exchange.rules import RULES, build_rule
from symphony_fl.exchange.seen import Seen
from symphony_fl.exchange.select import build_selection
from symphony_fl.exchange.topology import Topology, build_topology

F = np.float32
Sent = tuple[int, int, np.ndarray, np.ndarray]  # sender, round, indices, values


class Network:
    """Agents with a rule each, run as the agents run it: start, learn, offer, record, then the mail of this round.

    Args:
        edge_up: (round, i, j) -> whether mail passes this edge; if not it waits where a rule forwards, else is lost.
    """

    def __init__(
        self,
        rules: Sequence[Rule],
        topology: Topology,
        size: int,
        *,
        selection: str = "dense",
        density: float = 1.0,
        coding: str = "float32",
        edge_up: Callable[[int, int, int], bool] = lambda round, i, j: True,
    ) -> None:
        self.rules = list(rules)
        self.topology = topology
        self.selection = build_selection(selection, Layout(("a",), ((size,),)), density, seed=3)
        self.codec = build_codec(coding, 32)
        self.edge_up = edge_up
        self.theta = [np.zeros(size, dtype=F) for _ in rules]
        self.waiting: dict[tuple[int, int], list[Sent]] = {}

    def round(self, round: int, learn: Callable[[int, np.ndarray], np.ndarray]) -> None:
        for me, rule in enumerate(self.rules):
            own = learn(me, rule.start(self.theta[me]))
            offer = rule.offer(own)
            indices = self.selection.select(offer.score, round)
            decoded = self.codec.decode(self.codec.encode(offer.values[indices]), indices.size)
            self.theta[me] = rule.record(own, indices, decoded, round)
            for other in self.topology.neighbours(me, round):
                self.waiting.setdefault((me, other), []).append((me, round, indices, decoded))
        delivered = self.waiting
        self.waiting = {}
        boxes: dict[int, list[Sent]] = {}
        for (sender, receiver), mail in sorted(delivered.items()):
            if not self.edge_up(round, sender, receiver):
                if self.rules[receiver].forwards:
                    self.waiting[sender, receiver] = mail
                continue
            boxes.setdefault(receiver, []).extend(mail)
        for receiver, mail in boxes.items():
            self._deliver(receiver, mail, round)

    def _deliver(self, receiver: int, mail: list[Sent], round: int) -> None:
        rule = self.rules[receiver]
        fresh = [sent for sent in mail if not rule.forwards or rule.seen.is_new(sent[0], sent[1])]  # type: ignore[attr-defined]
        weights = self.topology.weights(receiver, round)
        received = [Received(who, weights.get(who, 0.0), when, *rest) for who, when, *rest in fresh]
        self.theta[receiver] = rule.merge(self.theta[receiver], received, round)
        if rule.forwards:
            for other in self.topology.neighbours(receiver, round):
                self.waiting.setdefault((receiver, other), []).extend(fresh)

    def spread(self) -> float:
        stacked = np.stack(self.theta).astype(np.float64)
        return float(np.abs(stacked - stacked.mean(axis=0)).max())


def _still(me: int, theta: np.ndarray) -> np.ndarray:
    return theta


def _noise(seed: int, size: int) -> Callable[[int, np.ndarray], np.ndarray]:
    rng = np.random.default_rng(seed)
    return lambda me, theta: theta + rng.standard_normal(size).astype(F)


def _one_mail(rule: Rule, theta: np.ndarray, values: np.ndarray, weight: float, round: int = 1) -> np.ndarray:
    return rule.merge(theta, [Received(9, weight, round, np.arange(values.size), values)], round)


# --- consensus ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "selection", "density", "coding", "gamma", "rounds"),
    [
        ("choco", "dense", 1.0, "float32", 1.0, 100),
        ("choco", "dense", 1.0, "sign", 0.4, 300),
        ("choco", "dense", 1.0, "int2", 0.6, 200),
        ("choco", "topk", 0.2, "float32", 0.3, 800),
        ("choco", "topk", 0.1, "int4", 0.15, 1500),
        ("choco", "random", 0.2, "int8", 0.08, 1200),
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
    network.round(0, _noise(1, size))
    started = np.mean(network.theta, axis=0, dtype=np.float64)
    first = network.spread()
    for round in range(1, rounds):
        network.round(round, _still)
    assert network.spread() < 1e-3 * first
    assert np.abs(np.mean(network.theta, axis=0, dtype=np.float64) - started).max() < 1e-4


def test_noloco_pairs_agree_and_keep_the_mean() -> None:
    size = 20
    network = Network(
        [build_rule("noloco", size, momentum=0.3, step=1.0, pull=1.0) for _ in range(8)],
        build_topology("random_pairs", 8),
        size,
    )
    network.round(0, _noise(2, size))
    # One round of learning, then none: momentum still carries the mean to step / (1 - momentum) times the progress.
    progress = np.mean([rule.state["change"] for rule in network.rules], axis=0, dtype=np.float64)
    for round in range(1, 400):
        network.round(round, _still)
    assert network.spread() < 1e-3
    assert np.allclose(np.mean(network.theta, axis=0), progress / (1 - 0.3), atol=1e-3)


def test_noloco_one_round_by_hand() -> None:
    """Two partners, w = 1/2: delta = b mean Delta - g (phi_i - mean phi), from equal phi = 0 here."""
    rule = build_rule("noloco", 2, momentum=0.5, step=0.7, pull=0.9)
    theta = rule.start(np.zeros(2, dtype=F)) + np.array([1.0, -1.0], dtype=F)
    offer = rule.offer(theta)
    rule.record(theta, np.arange(2), offer.values, 1)
    other_change = np.array([3.0, 1.0])
    merged = _one_mail(rule, theta, (0.7 / 0.9 * other_change).astype(F), 0.5)
    assert np.allclose(merged, 0.7 * (np.array([1.0, -1.0]) + other_change) / 2)
    alone = build_rule("noloco", 2, momentum=0.5, step=0.7, pull=0.9)
    alone.start(np.zeros(2, dtype=F))
    alone.record(theta, np.arange(2), offer.values, 1)
    assert np.allclose(alone.start(theta), 0.7 * np.array([1.0, -1.0]))


# --- eq. 4 ----------------------------------------------------------------------------------------------------------


def _quadratic(goals: np.ndarray, rate: float) -> Callable[[int, np.ndarray], np.ndarray]:
    """A local step towards each agent's goal: an error is multiplied by 1 - rate."""
    return lambda me, theta: (theta - F(rate) * (theta - goals[me])).astype(F)


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
        network.round(round, _quadratic(goals, rate))
    error = float(np.abs(np.stack(network.theta) - 1).max())
    assert error > 1e2 if diverges else error < 1e-3


def test_deltas_alone_never_pull_agents_together() -> None:
    network = Network([build_rule("delta", 4) for _ in range(4)], build_topology("full", 4), 4)
    network.round(0, _still)
    for me in range(4):
        network.theta[me] = np.full(4, float(me), dtype=F)
    for round in range(1, 50):
        network.round(round, _still)
    assert network.spread() == 1.5


def test_momentum_applies_every_change_once() -> None:
    rule = build_rule("delta", 1, momentum=0.8)
    theta = rule.start(np.zeros(1, dtype=F))
    theta = _one_mail(rule, theta, np.ones(1, dtype=F), 0.25)
    first = float(theta[0])
    for round in range(2, 100):
        theta = rule.merge(theta, [], round)
    assert first == pytest.approx(0.05)
    assert float(theta[0]) == pytest.approx(0.25, rel=1e-4)


# --- error feedback -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("coding", ["sign", "int2", "int4", "bfloat16"])
def test_error_feedback_loses_nothing(coding: str) -> None:
    """Sum of sent + residual = sum of changes, exactly, in float64."""
    rng = np.random.default_rng(5)
    codec, feedback = build_codec(coding, 16), Feedback(100)
    changes = np.zeros(100)
    sent = np.zeros(100)
    for _ in range(200):
        change = rng.standard_normal(100).astype(F)
        owed = feedback.offer(change)
        indices = np.sort(np.argsort(-np.abs(owed))[:10])
        decoded = codec.decode(codec.encode(owed[indices]), 10)
        sent[indices] += feedback.sent(change, indices, decoded) * UNIT
        changes += to_grid(change) * UNIT
    assert np.array_equal(sent + feedback.residual * UNIT, changes)
    assert np.abs(feedback.residual).max() * UNIT < 50  # it stays bounded: everything is sent in the end


@pytest.mark.parametrize("name", ["delta", "epidemic"])
def test_rules_with_error_feedback_send_everything_in_the_end(name: str) -> None:
    size = 50
    rule = build_rule(name, size, agents=1, combine="agents")
    selection = build_selection("topk", Layout(("a",), ((size,),)), 0.1)
    theta = rule.start(np.zeros(size, dtype=F))
    goal = np.linspace(0.5, 1, size).astype(F)
    learned = (theta + goal).astype(F)
    total = np.zeros(size)
    for round in range(1, 30):
        offer = rule.offer(learned)
        indices = selection.select(offer.score, round)
        rule.record(learned, indices, offer.values[indices], round)
        total[indices] += offer.values[indices]
        learned = rule.start(learned)
    assert np.allclose(total, goal)
    assert not rule.state["residual"].any()


# --- the shared state -----------------------------------------------------------------------------------------------


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
    learn = _noise(6, size)
    for round in range(1, 8):
        network.round(round, learn)
    for round in range(
        8, 14
    ):  # let the last updates travel; agents learn nothing, but their residuals still leave
        network.round(round, _still)
    for _ in range(6):
        _flood(network)
    states = [rule.shared().tobytes() for rule in network.rules]  # type: ignore[attr-defined]
    assert len(set(states)) == 1
    assert np.abs(network.theta[0]).max() > 0


def _flood(network: Network) -> None:
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
        learn = _noise(7, size)
        for round in range(1, 16):
            network.round(round, learn)
            if round == 14:
                assert network.spread() > 0.1
        for _ in range(10):
            _flood(network)
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


# --- seen -----------------------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 30)), max_size=80), st.integers(0, 10))
def test_seen_takes_every_update_once_and_survives(pairs: list[tuple[int, int]], window: int) -> None:
    seen, had = Seen(window), set()
    for sender, round in pairs:
        newest = max((r for s, r in had if s == sender), default=-1)
        expected = (sender, round) not in had and round >= newest - window
        copy = Seen(window)
        copy.load_state(seen.state())
        assert seen.is_new(sender, round) == copy.is_new(sender, round) == expected
        assert seen.add(sender, round) == expected
        if expected:
            had.add((sender, round))
        assert all(len(rounds) <= window for rounds in seen.missing.values())


# --- robustness -----------------------------------------------------------------------------------------------------


def _damage(robust: str, attack: Callable[[np.ndarray], np.ndarray], name: str = "average") -> float:
    """Distance of the honest agents from their common goal, with one of eight hostile."""
    size = 20
    network = Network(
        [build_rule(name, size, robust=robust, number=me, agents=8) for me in range(8)],
        build_topology("full", 8),
        size,
    )
    goals = np.ones((8, size), dtype=F)
    honest = _quadratic(goals, 0.3)
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
    network.round(0, _noise(3, 10))
    for round in range(1, 40):
        network.round(round, _still)
    assert network.spread() < 1e-5


# --- restarts and refusals ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("robust", ["none", "clip", "median"])
@pytest.mark.parametrize("name", sorted(RULES))
def test_a_restart_after_any_call_changes_nothing(name: str, robust: str) -> None:
    if (name, robust) in {("choco", "clip"), ("choco", "median")}:
        with pytest.raises(MergeError):
            build_rule(name, 12, robust=robust)
        return

    def life(restart: bool) -> bytes:
        rule = build_rule(name, 12, agents=3, robust=robust, momentum=0.5)
        theta = np.zeros(12, dtype=F)
        rng = np.random.default_rng(9)

        def again(rule: Rule) -> Rule:
            if not restart:
                return rule
            fresh = build_rule(name, 12, agents=3, robust=robust, momentum=0.5)
            fresh.load_state({key: np.array(array) for key, array in rule.state.items()})
            return fresh

        for round in range(1, 6):
            theta = (rule.start(theta) + rng.standard_normal(12).astype(F)).astype(F)
            rule = again(rule)
            indices = np.sort(rng.permutation(12)[:5])
            offer = rule.offer(theta)
            theta = rule.record(theta, indices, offer.values[indices], round)
            rule = again(rule)
            mail = [Received(j, 0.3, round, indices, rng.standard_normal(5).astype(F)) for j in (1, 2)]
            theta = rule.merge(theta, mail[: 1 + round % 2], round)
            rule = again(rule)
        return rule.start(theta).tobytes()

    assert life(True) == life(False)
    rule = build_rule(name, 12, robust=robust)
    with pytest.raises(MergeError):
        rule.load_state({})


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("averag", {}, "average"),
        ("average", {"robust": "clipp"}, "clip"),
        ("delta", {"scaling": "mean"}, "mixing"),
        ("delta", {"momentum": 1.0}, "momentum"),
        ("choco", {"gamma": 0.0}, "gamma"),
        ("epidemic", {"combine": "best"}, "senders"),
        ("epidemic", {"robust": "clip", "clip": 0.0}, "clip"),
        ("epidemic", {"hops": 40}, "hops"),
        ("epidemic", {"eta": -1.0}, "eta"),
        ("noloco", {"pull": 0.0}, "pull"),
        ("average", {"robust": "trimmed", "trim": 0.5}, "trim"),
    ],
)
def test_wrong_arguments_are_refused(name: str, options: dict, words: str) -> None:
    with pytest.raises(MergeError, match=words):
        build_rule(name, 5, **options)
