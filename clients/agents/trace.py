"""What an agent keeps of its own updates, for those who ask how they compare (the paper, section 6.4).

An update is what one round of local learning changed: the adapter after it less the adapter it started from.
Consecutive updates give the agent's smoothness, reported with the round. At every evaluation the agent writes its
newest update and its movement since the start to its home, as safetensors. They are never sent.

    trace/
      update-00007.npy             float32 [P], of the agent's last two rounds
      evaluated-00006.safetensors  update and movement, float32 [P], as of the evaluation of the network's round 6

Nothing of the run depends on these files. A round that is repeated after a kill writes the same ones again.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from symphony_fl.metrics.paper_metrics import cosine
from symphony_fl.storage.folders import write_atomically


class Trace:
    """The trace of one agent.

    Parameters
    ----------
    home : the agent's folder.
    wanted : False keeps and reports nothing (`tracking.trace`).
    """

    def __init__(self, home: Path, wanted: bool) -> None:
        self.folder = home / "trace"
        self.wanted = wanted
        if wanted:
            self.folder.mkdir(parents=True, exist_ok=True)

    def learnt(self, round: int, update: np.ndarray) -> dict[str, float]:
        """Keep a round's update, float32 [P]; its cosine with the one before, where both are there and moved."""
        if not self.wanted:
            return {}
        data = io.BytesIO()
        np.save(data, update.astype(np.float32), allow_pickle=False)
        write_atomically(self._update(round), data.getvalue())
        for old in self.folder.glob("update-*.npy"):
            if old < self._update(round - 1):
                old.unlink()
        if not self._update(round - 1).is_file():
            return {}
        before = np.load(self._update(round - 1), allow_pickle=False)
        found = cosine(before, update)
        return {} if found is None else {"smoothness": found}

    def evaluated(self, round: int, movement: np.ndarray) -> None:
        """Leave the newest update and the movement since the start, float32 [P], for readers of the home."""
        updates = sorted(self.folder.glob("update-*.npy")) if self.wanted else []
        if not updates:
            return
        update = np.load(updates[-1], allow_pickle=False)
        arrays = {"update": update, "movement": np.ascontiguousarray(movement, np.float32)}
        write_atomically(self.folder / f"evaluated-{round:05}.safetensors", save(arrays))

    def _update(self, round: int) -> Path:
        return self.folder / f"update-{round:05}.npy"
