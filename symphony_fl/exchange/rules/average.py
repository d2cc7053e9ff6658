"""`average`: sparse parameter averaging over the graph (SPARTA, with neighbours in place of an all-reduce).

Values of the adapter travel, at a mask that both ends share. With q_i what agent i's values became after coding,

    theta_i <- theta_i + alpha * sum over neighbours j of w_ij (q_j - q_i)      at the entries of the mask.

Departures from the plain average sum_j w_ij theta_j, and why:
 - q_i, not theta_i, is subtracted: what j gains from i is exactly what i loses to j. So with symmetric weights any
   coding preserves the network's mean (Carli et al. 2010, "Gossip consensus algorithms via quantized communication").
   The coding's error stays on its own agent.
 - An absent neighbour's term is left out: its weight stays on oneself, and the sum still keeps the mean as long as the
   absence is mutual.
 - Where j's mask is not one's own (other rounds, data-dependent selections) theta_i stands in for q_i: still
   contracting, no longer mean-preserving.

The sum's order is fixed, so that a hand computation gives the same bits: over neighbours in ascending order,
move += float32(alpha * w_ij) * (q_j - q_i) in float32 from zero, then theta_i + move in float32.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from symphony_fl.exchange.rules.rule import MergeError, Offer, Received, checked_state, newest_per_sender


class Average:
    """Sparse averaging of values.

    Parameters
    ----------
    size : P.
    alpha : mixing factor of eq. 4, in (0, 1].

    State:
        public: float32 [P], the values that left the device last, entry by entry; what neighbours know.
        mask: uint8 [ceil(P/8)], the bits of the entries sent last. round: int64 [1], the round of that, -1 before.
    """

    kind = "values"
    forwards = False

    def __init__(self, size: int, alpha: float = 1.0) -> None:
        if not 0.0 < alpha <= 1.0:
            raise MergeError(f"alpha={alpha}: must be above 0 and at most 1")
        self.size = size
        self.alpha = alpha
        self.state: dict[str, np.ndarray] = {
            "public": np.zeros(size, dtype=np.float32),
            "mask": np.zeros((size + 7) // 8, dtype=np.uint8),
            "round": np.full(1, -1, dtype=np.int64),
        }

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        self.state = checked_state(self.state, state)

    def start(self, theta: np.ndarray) -> np.ndarray:
        return theta

    def offer(self, theta: np.ndarray) -> Offer:
        """The adapter itself; ranked by how far each entry is from what neighbours saw last."""
        return Offer(values=theta, score=theta - self.state["public"])

    def record(self, theta: np.ndarray, indices: np.ndarray, decoded: np.ndarray, round: int) -> np.ndarray:
        self.state["public"][indices] = decoded
        sent = np.zeros(self.size, dtype=np.bool_)
        sent[indices] = True
        self.state["mask"] = np.packbits(sent)
        self.state["round"][0] = round
        return theta

    def merge(self, theta: np.ndarray, received: Sequence[Received], round: int) -> np.ndarray:
        move = np.zeros(self.size, dtype=np.float32)
        sent = np.unpackbits(self.state["mask"], count=self.size).view(np.bool_)
        for update in newest_per_sender(received):
            own = theta[update.indices]
            if update.round == int(self.state["round"][0]):
                own = np.where(sent[update.indices], self.state["public"][update.indices], own)
            move[update.indices] += np.float32(self.alpha * update.weight) * (update.values - own)
        return theta + move
