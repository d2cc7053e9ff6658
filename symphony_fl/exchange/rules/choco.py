"""`choco`: CHOCO-SGD (Koloskova, Stich and Jaggi 2019, "Decentralized Stochastic Optimization and Gossip Algorithms
with Compressed Communication", algorithm 2).

Every agent keeps a public copy of itself and of each neighbour. Only the compressed difference to one's own public
copy travels, so compression errors are corrected later instead of lost:

    q_i = C(theta_i - pub_i);    pub_i += q_i at i and at its neighbours;
    theta_i <- theta_i + gamma * sum over j of w_ij (pub_j - pub_i)

It reaches the exact mean for any contracting C (top-k, sign, few bits), if gamma is small enough: in prototypes at
5 % gamma 0.5 learns and 1.0 collapses. With symmetric weights the network's mean is kept whatever C does.

Departures: weights are those of the round's graph, so each neighbour's copy is kept by itself rather than their
weighted sum. Copies agree only if every difference arrives once and in order. Late mail is applied when it comes. Lost
mail leaves a neighbour's copy wrong by its content, so the mailbox must keep what it could not deliver. With masks
gamma must be about the density: a copy is as old as its entry's last visit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from symphony_fl.exchange.rules.rule import MergeError, Offer, Received, in_order

_NEIGHBOUR = "neighbour/"


class Choco:
    """Gossip of compressed differences to public copies.

    Parameters
    ----------
    size : P.
    gamma : consensus step size, in (0, 1].

    State:
        anchor: float32 [P], the adapter all agents began with; every public copy starts there. begun: uint8 [1].
        public: float32 [P], one's own public copy. neighbour/<j>: float32 [P], that of agent j.
    """

    kind = "difference"
    forwards = False

    def __init__(self, size: int, gamma: float = 0.5) -> None:
        if not 0.0 < gamma <= 1.0:
            raise MergeError(f"gamma={gamma}: must be above 0 and at most 1")
        self.size = size
        self.gamma = gamma
        self.state: dict[str, np.ndarray] = {
            "anchor": np.zeros(size, dtype=np.float32),
            "public": np.zeros(size, dtype=np.float32),
            "begun": np.zeros(1, dtype=np.uint8),
        }

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        for name, array in state.items():
            known = self.state.get(name)
            if known is None and not name.startswith(_NEIGHBOUR):
                raise MergeError(f"state {name!r}: not one of choco's")
            if array.shape != ((self.size,) if known is None else known.shape):
                raise MergeError(f"state {name!r} has shape {array.shape}")
        if not set(self.state) <= set(state):
            raise MergeError(f"state has {sorted(state)}, expected {sorted(self.state)} at least")
        self.state = {name: np.array(array) for name, array in state.items()}

    def _begin(self, theta: np.ndarray) -> None:
        """The first adapter the rule sees is the one that all agents of a run begin with."""
        if not self.state["begun"][0]:
            self.state["anchor"], self.state["public"] = theta.copy(), theta.copy()
            self.state["begun"][0] = 1

    def start(self, theta: np.ndarray) -> np.ndarray:
        self._begin(theta)
        return theta

    def offer(self, theta: np.ndarray) -> Offer:
        self._begin(theta)
        difference = theta - self.state["public"]
        return Offer(values=difference, score=difference)

    def record(self, theta: np.ndarray, indices: np.ndarray, decoded: np.ndarray, round: int) -> np.ndarray:
        self.state["public"][indices] += decoded
        return theta

    def merge(self, theta: np.ndarray, received: Sequence[Received], round: int) -> np.ndarray:
        self._begin(theta)
        weights: dict[int, float] = {}
        for update in in_order(received):
            copy = self.state.setdefault(f"{_NEIGHBOUR}{update.sender}", self.state["anchor"].copy())
            copy[update.indices] += update.values
            weights[update.sender] = update.weight
        move = np.zeros(self.size, dtype=np.float32)
        for sender, weight in sorted(weights.items()):
            move += np.float32(weight) * (self.state[f"{_NEIGHBOUR}{sender}"] - self.state["public"])
        merged: np.ndarray = theta + np.float32(self.gamma) * move
        return merged
