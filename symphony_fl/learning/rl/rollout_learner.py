"""A step of GRPO (eq. 7) on rollouts that others sampled, perhaps with older weights (section 6.2).

The loss is that of `grpo.py` over all the step's rollouts together; what differs is who sampled. Where older weights
did, the ratio of eq. 7 between the policy in training and the recorded log-probabilities puts that right as far as the
settings let it (`grpo_loss.py`).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from symphony_fl.learning.model.adapters import Policy
from symphony_fl.learning.report import LearnReport, Meter
from symphony_fl.learning.rl.grpo import task_rewards
from symphony_fl.learning.rl.grpo_loss import group_advantages
from symphony_fl.learning.rl.grpo_settings import GRPOSettings
from symphony_fl.learning.rl.policy_gradient import PolicyGradient, Scored
from symphony_fl.learning.rl.sampling import Rollout
from symphony_fl.learning.skills import Task


@dataclass(frozen=True)
class Sampled:
    """Completions of some of a step's tasks, grouped by task, and the digest of the adapter that sampled them."""

    tasks: Sequence[Task]
    rollout: Rollout
    policy: bytes


class RolloutLearner:
    """Trains the adapter that is in ``policy``, in place; its optimizer's state lasts, see `state`."""

    def __init__(self, policy: Policy, settings: GRPOSettings) -> None:
        self.settings = settings
        self.gradient = PolicyGradient(policy, settings)

    def sample(self, tasks: Sequence[Task], seed: int) -> Sampled:
        """Completions by the adapter that is in the model now."""
        policy = self.gradient.digest()
        rollout = self.gradient.sample([task.prompt for task in tasks], self.settings.samples, seed)
        return Sampled(tasks, rollout, policy)

    def learn(
        self, parts: Sequence[Sampled], known: Collection[bytes], seed: int, meter: Meter
    ) -> LearnReport:
        """One step over all parts, its loss that of one batch of all; nothing happens where there are none.

        Raises
        ------
        PolicyMismatch
            An adapter sampled that is neither in the model now nor among ``known``, by digest.
        """
        scored = []
        rows = sum(len(part.rollout.completion_mask) for part in parts)
        all_tokens = max(1, sum(int(part.rollout.completion_mask.sum()) for part in parts))
        by_tokens = self.settings.normalization == "token"  # a part's loss is then a mean over its tokens
        for part in parts:
            with meter.clock("score"):
                rewards_NG = task_rewards(part.tasks, part.rollout.texts)
                advantages_NG = group_advantages(rewards_NG, self.settings.scale_rewards)
            tokens = int(part.rollout.completion_mask.sum())
            meter.sampled([task.skill for task in part.tasks], rewards_NG, advantages_NG, tokens)
            share = tokens / all_tokens if by_tokens else len(part.rollout.completion_mask) / rows
            scored.append(
                Scored(part.rollout, part.policy, advantages_NG.reshape(-1), self.settings.samples, share)
            )
        if scored:
            self.gradient.update(scored, seed, meter, known)
        return meter.report(steps=1)

    def state(self) -> dict[str, np.ndarray]:
        """The optimizer's state, see `PolicyGradient.state`."""
        return self.gradient.state()

    def load_state(self, state: dict[str, np.ndarray]) -> None:
        """Take back what `state` gave; raises ValueError where it does not fit."""
        self.gradient.load_state(state)
