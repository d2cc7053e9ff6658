"""Robust variants: wrappers around a neighbour rule that limit what received updates can do.

 - `Clipped`: ClippedGossip (He, Karimireddy and Jaggi 2022, "Byzantine-Robust Decentralized Learning via
   ClippedGossip"): each neighbour's distance to oneself is clipped to a radius tau before the rule sees it, so that
   no sender moves the receiver by more than w_ij tau. The paper's tau needs the honest neighbours' variance. Here
   it is `factor` times the larger of one's own last move and the lower median of the neighbours' distances, which a
   minority cannot raise. So it needs all mail of a round at once.
 - `Middle`: coordinate-wise median or trimmed mean over oneself and the neighbours (Yin et al. 2018,
   "Byzantine-Robust Distributed Learning"). With two neighbours the median of three tolerates one hostile.

Both give up the exact mean for safety. Not for rules that keep public copies (`choco`: clipping would make the copies
differ) nor for those that forward (`epidemic` has `median` and `trimmed` of its own, alike on every agent).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from symphony_fl.exchange.rules.rule import MergeError, Offer, Received, Rule, newest_per_sender

_PREFIX = "rule/"


class _Wrapper:
    """Hands everything but `merge` on to a rule, and keeps what the round started from.

    State: the rule's under rule/..., and start: float32 [P].
    """

    forwards = False

    def __init__(self, rule: Rule, size: int) -> None:
        if rule.kind not in ("values", "deltas") or rule.forwards:
            raise MergeError(f"a robust wrapper cannot hold a rule of kind {rule.kind!r}")
        self.rule = rule
        self.kind = rule.kind
        self._start = np.zeros(size, dtype=np.float32)

    @property
    def state(self) -> dict[str, np.ndarray]:
        return {"start": self._start} | {_PREFIX + name: array for name, array in self.rule.state.items()}

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        if "start" not in state or state["start"].shape != self._start.shape:
            raise MergeError("state: 'start' is missing or of another size")
        self._start = np.array(state["start"])
        self.rule.load_state(
            {name.removeprefix(_PREFIX): array for name, array in state.items() if name.startswith(_PREFIX)}
        )

    def start(self, theta: np.ndarray) -> np.ndarray:
        begun = self.rule.start(theta)
        self._start = begun.copy()
        return begun

    def offer(self, theta: np.ndarray) -> Offer:
        return self.rule.offer(theta)

    def record(self, theta: np.ndarray, indices: np.ndarray, decoded: np.ndarray, round: int) -> np.ndarray:
        return self.rule.record(theta, indices, decoded, round)

    def _reference(self, theta: np.ndarray, update: Received) -> np.ndarray:
        """What an update that changes nothing would hold, float32 [k]."""
        return theta[update.indices] if self.kind == "values" else np.zeros_like(update.values)


class Clipped(_Wrapper):
    """Each neighbour's distance clipped to a radius.

    Parameters
    ----------
    rule : of kind values or deltas.
    size : P.
    factor : of the radius, above 0.
    """

    def __init__(self, rule: Rule, size: int, factor: float = 1.0) -> None:
        if not 0.0 < factor < float("inf"):
            raise MergeError(f"factor={factor}: must be above 0")
        super().__init__(rule, size)
        self.factor = factor

    def merge(self, theta: np.ndarray, received: Sequence[Received], round: int) -> np.ndarray:
        if not received:
            return self.rule.merge(theta, received, round)
        references = [self._reference(theta, update) for update in received]
        distances = [
            _norm(update.values.astype(np.float64) - own)
            for update, own in zip(received, references, strict=True)
        ]
        moved = theta.astype(np.float64) - self._start
        own_move = max(_norm(moved[update.indices]) for update in received)
        radius = self.factor * max(own_move, sorted(distances)[(len(distances) - 1) // 2])
        clipped = [
            update if distance <= radius else _shrunk(update, own, radius / distance)
            for update, own, distance in zip(received, references, distances, strict=True)
        ]
        return self.rule.merge(theta, clipped, round)


class Middle(_Wrapper):
    """Coordinate-wise median or trimmed mean in place of the rule's weighted sum.

    Parameters
    ----------
    rule : of kind values or deltas.
    size : P.
    trim : share of the rows dropped at each end, at least one row; None for the median.
    """

    def __init__(self, rule: Rule, size: int, trim: float | None = None) -> None:
        if trim is not None and not 0.0 < trim < 0.5:
            raise MergeError(f"trim={trim}: must be above 0 and below 0.5")
        super().__init__(rule, size)
        self.trim = trim

    def merge(self, theta: np.ndarray, received: Sequence[Received], round: int) -> np.ndarray:
        updates = newest_per_sender(received)
        if not updates:
            return theta.copy()
        own = [np.zeros_like(theta)] if self.kind == "values" else []
        rows = own + [_row(theta.size, update, self._reference(theta, update)) for update in updates]
        # For values the row of zeros is oneself; deltas are added with the weight the neighbours have together.
        weight = 1.0 if self.kind == "values" else sum(update.weight for update in updates)
        return theta + np.float32(weight) * _middle(np.stack(rows), self.trim)


def _row(size: int, update: Received, reference: np.ndarray) -> np.ndarray:
    row = np.zeros(size, dtype=np.float32)
    row[update.indices] = update.values - reference
    return row


def _middle(rows: np.ndarray, trim: float | None) -> np.ndarray:
    """Median or trimmed mean of [n, P] over n, float32 [P]."""
    count = rows.shape[0]
    cut = (count - 1) // 2 if trim is None else min(max(1, int(trim * count)), (count - 1) // 2)
    middle: np.ndarray = np.sort(rows, axis=0)[cut : count - cut].mean(axis=0, dtype=np.float64)
    return middle.astype(np.float32)


def _shrunk(update: Received, reference: np.ndarray, share: float) -> Received:
    values = reference + np.float32(share) * (update.values - reference)
    return replace(update, values=values.astype(np.float32))


def _norm(values: np.ndarray) -> float:
    return float(np.linalg.norm(values))
