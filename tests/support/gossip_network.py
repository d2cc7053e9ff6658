"""A network of rules without learning or envelopes: what the tests of the exchange rules share."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from symphony_fl.exchange.codecs.codec import build_codec
from symphony_fl.exchange.flat import Layout
from symphony_fl.exchange.rules.rule import Received, Rule
from symphony_fl.exchange.selection.selection import build_selection
from symphony_fl.exchange.topology import Topology

F = np.float32
Sent = tuple[int, int, np.ndarray, np.ndarray]  # sender, round, indices, values


class Network:
    """Agents with a rule each, run as the agents run it: start, learn, offer, record, then the mail of this round.

    Parameters
    ----------
    edge_up : (round, i, j) -> whether mail passes this edge; if not it waits where a rule forwards, else is lost.
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


def still(me: int, theta: np.ndarray) -> np.ndarray:
    return theta


def noise(seed: int, size: int) -> Callable[[int, np.ndarray], np.ndarray]:
    rng = np.random.default_rng(seed)
    return lambda me, theta: theta + rng.standard_normal(size).astype(F)


def one_mail(rule: Rule, theta: np.ndarray, values: np.ndarray, weight: float, round: int = 1) -> np.ndarray:
    return rule.merge(theta, [Received(9, weight, round, np.arange(values.size), values)], round)


def quadratic(goals: np.ndarray, rate: float) -> Callable[[int, np.ndarray], np.ndarray]:
    """A local step towards each agent's goal: an error is multiplied by 1 - rate."""
    return lambda me, theta: (theta - F(rate) * (theta - goals[me])).astype(F)
