"""`epidemic`: a shared state that every agent rebuilds for itself, from sparse changes spread through the graph.

Shared state with error feedback (as DoubleSqueeze, Tang et al. 2019, and SparseLoCo, Sarfi et al. 2025, do with a
server or an all-reduce), without either. In every round agent i

    starts from        S_i = theta_0 + eta * pool of all updates received       (see `combiners.py`)
    learns             theta_i, and owes    o_i = (theta_i - S_i) + residual_i
    sends              q_i = C(o_i) at the selected entries, and keeps residual_i = o_i - q_i

and forwards, unchanged, the signed envelopes it had not seen. Each is one round older with every hop, so a hop limit is
an age limit: no envelope is forwarded that is `hops` rounds old. Sums are exact integers (`fixed_point.py`): two agents
that have received the same updates hold the same S to the last bit, in any order. That also holds after a partition of
the graph shorter than the window. An update that comes twice counts once.

What an agent did not send stays its own: with `keep` it starts from S_i + residual_i, and so specialises.
Bytes per agent grow with N, since every agent receives every update; with the neighbour rules they do not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from symphony_fl.exchange.fixed_point import UNIT, Feedback, from_grid, to_grid
from symphony_fl.exchange.rules.combiners import Combiner
from symphony_fl.exchange.rules.rule import MergeError, Offer, Received
from symphony_fl.identity.replay_window import ReplayWindow

_POOL = "pool/"


class Epidemic:
    """Forwarded changes of a shared state.

    Parameters
    ----------
    size : P.
    number : the agent's own number; its updates count like every other agent's. pool: how updates become one change
        (`combiners.py`, `robust_combiners.py`), fresh.
    eta : outer step size, above 0; 1 takes the pool as it is.
    keep : start rounds from S + residual rather than from S.
    window : rounds for which an update may be late.
    hops : rounds for which an update is passed on; at least the graph's diameter, at most the window.

    State:
        anchor: float32 [P], theta_0. start: float32 [P], what the round started from. begun: uint8 [1].
        residual: int64 [P], on the grid. seen: int64 [n, 2]. pool/...: of the pool.
    """

    kind = "deltas"
    forwards = True

    def __init__(
        self,
        size: int,
        number: int,
        combiner: Combiner,
        eta: float = 1.0,
        keep: bool = False,
        window: int = 32,
        hops: int = 32,
    ) -> None:
        if not 0.0 < eta < float("inf"):
            raise MergeError(f"eta={eta}: must be above 0")
        if not 1 <= hops <= window:
            raise MergeError(f"hops={hops}, window={window}: must be 1 <= hops <= window")
        self.number = number
        self.eta = eta
        self.keep = keep
        self.hops = hops
        self.seen = ReplayWindow(window)
        self._pool = combiner
        self._feedback = Feedback(size)
        self._anchor = np.zeros(size, dtype=np.float32)
        self._start = np.zeros(size, dtype=np.float32)
        self._begun = np.zeros(1, dtype=np.uint8)

    @property
    def state(self) -> dict[str, np.ndarray]:
        own: dict[str, np.ndarray] = {
            "anchor": self._anchor,
            "start": self._start,
            "begun": self._begun,
            "residual": self._feedback.residual,
            "seen": self.seen.state(),
        }
        return own | {_POOL + name: array for name, array in self._pool.state().items()}

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        mine = self.state
        if sorted(mine) != sorted(state):
            raise MergeError(f"state has {sorted(state)}, expected {sorted(mine)}")
        for name in ("anchor", "start", "residual", "pool/total"):
            if state[name].shape != mine[name].shape or state[name].dtype != mine[name].dtype:
                raise MergeError(f"state {name!r} is {state[name].dtype} {state[name].shape}")
        self._anchor, self._start = np.array(state["anchor"]), np.array(state["start"])
        self._begun, self._feedback.residual = np.array(state["begun"]), np.array(state["residual"])
        self.seen.load_state(state["seen"])
        self._pool.load_state(
            {name.removeprefix(_POOL): array for name, array in state.items() if name.startswith(_POOL)}
        )

    def shared(self) -> np.ndarray:
        """S, float32 [P]: the same bits on all agents that have had the same updates."""
        change = self._pool.view() * (UNIT * self.eta)
        return (self._anchor.astype(np.float64) + change).astype(np.float32)

    def _begin(self, theta: np.ndarray) -> None:
        if not self._begun[0]:
            self._anchor, self._begun[0] = theta.copy(), 1

    def _beginning(self) -> np.ndarray:
        shared = self.shared()
        return shared + from_grid(self._feedback.residual) if self.keep else shared

    def start(self, theta: np.ndarray) -> np.ndarray:
        self._begin(theta)
        self._start = self._beginning()
        return self._start.copy()

    def _change(self, theta: np.ndarray) -> np.ndarray:
        return theta.astype(np.float64) - self._start

    def offer(self, theta: np.ndarray) -> Offer:
        owed = self._feedback.offer(self._change(theta))
        return Offer(values=owed, score=owed)

    def record(self, theta: np.ndarray, indices: np.ndarray, decoded: np.ndarray, round: int) -> np.ndarray:
        units = self._feedback.sent(self._change(theta), indices, decoded)
        self._take(self.number, round, indices, units)
        self._start = self._beginning()
        return self._start.copy()

    def merge(self, theta: np.ndarray, received: Sequence[Received], round: int) -> np.ndarray:
        self._begin(theta)
        for update in received:
            self._take(update.sender, update.round, update.indices, to_grid(update.values))
        return self._beginning()

    def _take(self, sender: int, round: int, indices: np.ndarray, units: np.ndarray) -> None:
        """Counts an update once; those beyond the window are closed, which bounds memory."""
        if self.seen.add(sender, round):
            self._pool.add(round, indices, units)
            self._pool.close(max(self.seen.newest.values()) - self.seen.window)

    def passes_on(self, update_round: int, round: int) -> bool:
        """Whether an update that was new to this agent goes on to its neighbours."""
        return round - update_round < self.hops
