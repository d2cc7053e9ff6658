"""`noloco`: NoLoCo (Kolehmainen et al. 2025, "NoLoCo: No-all-reduce Low Communication Training"): random pairs and
a modified Nesterov momentum that also pulls the pair together.

With slow weights phi_i, the round's progress Delta_i = theta_i - phi_i, and partners j (their own included in the
means):

    delta_i <- a delta_i + b mean_j Delta_j - g (phi_i - mean_j phi_j);    phi_i <- phi_i + delta_i

Only one vector has to travel for that. With v = phi + (b / g) Delta and weights w_ij in place of 1/2,

    delta_i <- a delta_i + b Delta_i + g sum over j of w_ij (v_j - v_i)

and with q, what v became after coding, on both sides of the difference, the network's mean of phi moves by b mean
Delta exactly, as in the paper. Meant for topology `random_pairs`. An agent without a partner in a round takes the
step alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from symphony_fl.exchange.rules.rule import MergeError, Offer, Received, checked_state, newest_per_sender


class NoLoCo:
    """Outer momentum over random pairs.

    Parameters
    ----------
    size : P.
    momentum : a, in [0, 1).
    step : b, above 0; 1 takes the whole progress of a round.
    pull : g, above 0; how hard partners are pulled together.

    State:
        slow: float32 [P], phi. velocity: float32 [P], delta. change: float32 [P], the progress not yet applied.
        sent: float32 [P], v as it left the device, and mask: uint8 [ceil(P/8)], where it did.
        flags: int64 [2], begun and whether a step is still to be taken.
    """

    kind = "values"
    forwards = False

    def __init__(self, size: int, momentum: float = 0.5, step: float = 0.7, pull: float = 0.9) -> None:
        if not 0.0 <= momentum < 1.0:
            raise MergeError(f"momentum={momentum}: must be at least 0 and below 1")
        if not (0.0 < step <= 2.0 and 0.0 < pull <= 2.0):
            raise MergeError(f"step={step}, pull={pull}: must be above 0 and at most 2")
        self.size = size
        self.momentum = momentum
        self.step = step
        self.pull = pull
        self.state: dict[str, np.ndarray] = {
            name: np.zeros(size, dtype=np.float32) for name in ("slow", "velocity", "change", "sent")
        }
        self.state["mask"] = np.zeros((size + 7) // 8, dtype=np.uint8)
        self.state["flags"] = np.zeros(2, dtype=np.int64)

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        self.state = checked_state(self.state, state)

    def start(self, theta: np.ndarray) -> np.ndarray:
        if not self.state["flags"][0]:
            self.state["slow"] = theta.copy()
            self.state["flags"][0] = 1
        if self.state["flags"][1]:
            self._apply(np.zeros(self.size, dtype=np.float32))
        return self.state["slow"].copy()

    def offer(self, theta: np.ndarray) -> Offer:
        change = theta - self.state["slow"]
        values = self.state["slow"] + np.float32(self.step / self.pull) * change
        return Offer(values=values, score=values - self.state["sent"])

    def record(self, theta: np.ndarray, indices: np.ndarray, decoded: np.ndarray, round: int) -> np.ndarray:
        self.state["change"] = theta - self.state["slow"]
        self.state["sent"][indices] = decoded
        sent = np.zeros(self.size, dtype=np.bool_)
        sent[indices] = True
        self.state["mask"] = np.packbits(sent)
        self.state["flags"][1] = 1
        return theta

    def merge(self, theta: np.ndarray, received: Sequence[Received], round: int) -> np.ndarray:
        if not self.state["flags"][1]:
            return theta.copy()  # mail without a step of one's own: v_i of that round is gone
        sent = np.unpackbits(self.state["mask"], count=self.size).view(np.bool_)
        move = np.zeros(self.size, dtype=np.float32)
        for update in newest_per_sender(received):
            common = sent[update.indices]
            places = update.indices[common]
            move[places] += np.float32(update.weight) * (update.values[common] - self.state["sent"][places])
        self._apply(move)
        return self.state["slow"].copy()

    def _apply(self, move: np.ndarray) -> None:
        self.state["velocity"] = (
            np.float32(self.momentum) * self.state["velocity"]
            + np.float32(self.step) * self.state["change"]
            + np.float32(self.pull) * move
        )
        self.state["slow"] = self.state["slow"] + self.state["velocity"]
        self.state["flags"][1] = 0
