"""`delta`: eq. 4 of the paper, with the scaling that keeps it stable and the momentum of section 6.3.

Each agent sends the change of its last round (what was not sent before included: error feedback), and

    theta_i <- theta_i + alpha * m_i,    m_i <- beta m_i + (1 - beta) sum over j of s_ij C(Delta_j)

 - scaling "mixing" (default): s_ij = w_ij, so that the neighbours' changes weigh less than one's own together.
 - scaling "sum": s_ij = 1, eq. 4 as written with A = identity and alpha = 1. Where d neighbours move alike an agent
   takes d + 1 steps at once: a local step that contracts an error by 1 - h then multiplies it by 1 - (d + 1) h,
   which diverges for h > 2 / (d + 1). It is here to show that.
 - momentum beta in [0, 1): section 6.3's "momentum-based averaging"; the sum of the weights over time is 1, so that
   every change is applied once, smoothed over about 1 / (1 - beta) rounds.

Deltas spread learning but never pull diverged agents together: the difference of two agents is in no delta. Use
`average`, `choco` or `epidemic` where agents must agree.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from symphony_fl.exchange.fixed_point import Feedback
from symphony_fl.exchange.rules.rule import MergeError, Offer, Received, checked_state, in_order

SCALINGS = ("mixing", "sum")


class Delta:
    """Neighbours' changes, added.

    Parameters
    ----------
    size : P.
    alpha : mixing factor of eq. 4, above 0.
    scaling : one of `SCALINGS`.
    momentum : beta, 0 for none.

    State:
        start: float32 [P], what the round started from. residual: int64 [P], see `ledger.Feedback`.
        momentum: float32 [P]. begun: uint8 [1], 1 once a round has started.
    """

    kind = "deltas"
    forwards = False

    def __init__(self, size: int, alpha: float = 1.0, scaling: str = "mixing", momentum: float = 0.0) -> None:
        if not 0.0 < alpha < float("inf"):
            raise MergeError(f"alpha={alpha}: must be above 0")
        if scaling not in SCALINGS:
            raise MergeError(f"scaling={scaling!r}: must be one of {', '.join(SCALINGS)}")
        if not 0.0 <= momentum < 1.0:
            raise MergeError(f"momentum={momentum}: must be at least 0 and below 1")
        self.alpha = alpha
        self.scaling = scaling
        self.momentum = momentum
        self._feedback = Feedback(size)
        self._start = np.zeros(size, dtype=np.float32)
        self._smoothed = np.zeros(size, dtype=np.float32)
        self._begun = np.zeros(1, dtype=np.uint8)

    @property
    def state(self) -> dict[str, np.ndarray]:
        return {
            "start": self._start,
            "residual": self._feedback.residual,
            "momentum": self._smoothed,
            "begun": self._begun,
        }

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        loaded = checked_state(self.state, state)
        self._start, self._feedback.residual = loaded["start"], loaded["residual"]
        self._smoothed, self._begun = loaded["momentum"], loaded["begun"]

    def start(self, theta: np.ndarray) -> np.ndarray:
        self._start = theta.copy()
        self._begun[0] = 1
        return theta

    def _change(self, theta: np.ndarray) -> np.ndarray:
        return theta.astype(np.float64) - self._start if self._begun[0] else np.zeros(theta.shape)

    def offer(self, theta: np.ndarray) -> Offer:
        owed = self._feedback.offer(self._change(theta))
        return Offer(values=owed, score=owed)

    def record(self, theta: np.ndarray, indices: np.ndarray, decoded: np.ndarray, round: int) -> np.ndarray:
        self._feedback.sent(self._change(theta), indices, decoded)
        self._start = theta.copy()
        return theta

    def merge(self, theta: np.ndarray, received: Sequence[Received], round: int) -> np.ndarray:
        total: np.ndarray = np.zeros(theta.shape, dtype=np.float32)
        for update in in_order(received):
            factor = update.weight if self.scaling == "mixing" else 1.0
            total[update.indices] += np.float32(factor) * update.values
        if self.momentum:
            total *= np.float32(1 - self.momentum)
            total += np.float32(self.momentum) * self._smoothed
            self._smoothed = total
        return theta + np.float32(self.alpha) * total
