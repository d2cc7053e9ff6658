"""Experience replay (section 5.1: "to avoid parameter drift, agents apply regularization using prior distributions or
experience replay"): part of every batch are tasks out of memory.

What is replayed is the task, not its old completion: GRPO samples it anew, so the gradient stays on-policy and needs no
importance weights over many rounds (compare Rolnick et al., "Experience Replay for Continual Learning",
arXiv 1811.11682, who truncate them). Tasks that were solved sometimes are taken: those that always or never were give
no advantage. The prior distribution is the learner's part: `grpo.GRPO` with ``kl`` > 0 holds the policy to the base
model.
"""

from __future__ import annotations

import numpy as np

from symphony_fl.learning.memory.memory import Memory
from symphony_fl.learning.skills import Task
from symphony_fl.learning.tasks.task_sampler import Sampler, is_reserved

_TAG = 0x52504C59  # separates this stream from others drawn from the same seed


class ReplaySampler:
    """A `tasks.Sampler` that takes about ``share`` of every batch from ``memory`` and the rest from ``fresh``.

    The number replayed is share x n, rounded up or down by chance so that it is right on average; fewer while the
    memory has too few tasks. The memory must not be written between two calls that are to agree, as within a round.

    Raises
    ------
    ValueError
        ``share`` is outside [0, 1].
    """

    def __init__(
        self, fresh: Sampler, memory: Memory, share: float, seed: int, exclude: frozenset[str] = frozenset()
    ) -> None:
        if not 0 <= share <= 1:
            raise ValueError(f"share = {share}: must be in [0, 1]")
        self.fresh = fresh
        self.memory = memory
        self.share = share
        self.seed = seed
        self.exclude = exclude

    def sample(self, n: int, round: int, step: int) -> list[Task]:
        """``n`` tasks, the replayed ones last; never a reserved prompt, even if one got into the memory."""
        rng = np.random.default_rng([self.seed, _TAG, round, step])
        wanted = min(n, int(self.share * n + rng.random()))
        tasks = [episode.task for episode in self.memory.replay(rng, wanted)]
        old = [task for task in tasks if not is_reserved(task.prompt) and task.prompt not in self.exclude]
        return self.fresh.sample(n - len(old), round, step) + old
