"""GRPO on the adapter: the local learner of eq. 7, a small loop for many short rounds.

Shao et al., "DeepSeekMath", arXiv 2402.03300, section 4.1: for each prompt a group of samples, each sample's
advantage is its reward relative to its group, no value function, PPO's clipped ratio per token.

Departures from the paper, all but the last two by settings:
- Advantages are not divided by the group's standard deviation, and the loss is divided by a constant instead of
  each completion's length (``scale_rewards="none"``, ``normalization="dr_grpo"``): both divisions bias the gradient,
  towards questions nearly always or nearly never solved and towards long wrong answers. Liu et al., "Understanding
  R1-Zero-Like Training" (Dr. GRPO), arXiv 2503.20783. The paper's own are "group" and "sequence".
- The upper clip is wider than the lower one ("clip-higher"): a symmetric one holds down rare right answers. Yu et
  al., "DAPO", arXiv 2503.14476, section 3.1; ``normalization="token"`` is its section 3.3.
- No KL term unless ``kl`` > 0; then k3 against the base model, which is the adapter switched off (the paper renews
  its reference between iterations).
- The old policy of the ratio is the one that sampled, by the log-probabilities it sampled with.
- Groups whose samples all earned the same have no advantage and, without a KL term, no gradient: they are left out
  of the forward pass but count in every denominator, so the gradient is that of the whole batch.

Shapes: N prompts, G samples each, B = N G rows, P prompt and T completion tokens; adapter entries: size.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from symphony_fl.learning.model.adapters import Policy
from symphony_fl.learning.report import LearnReport, Meter
from symphony_fl.learning.rl.grpo_loss import group_advantages, mixed_advantages
from symphony_fl.learning.rl.grpo_settings import GRPOSettings
from symphony_fl.learning.rl.policy_gradient import PolicyGradient, Scored
from symphony_fl.learning.skills import Task, get_skill
from symphony_fl.learning.tasks.task_sampler import Sampler

_STREAM = 0x47  # separates the learner's random stream from others drawn from the same seed


@dataclass(frozen=True)
class Baseline:
    """The shared reward as a baseline across agents and rounds (section 5.2 (4)): skill -> value, and its weight."""

    values: Mapping[str, float]
    weight: float


class GRPO:
    """Trains the adapter that is in ``policy``, in place; its optimizer's state lasts, see `state`."""

    def __init__(
        self,
        policy: Policy,
        sampler: Sampler,
        settings: GRPOSettings,
        seed: int,
        baseline: Baseline | None = None,
    ) -> None:
        self.baseline = baseline
        self.sampler = sampler
        self.settings = settings
        self.seed = seed
        self.gradient = PolicyGradient(policy, settings)

    def improve(self, round: int, steps: int) -> LearnReport:
        """``steps`` steps of eq. 7. On one machine deterministic in (adapter, optimizer state, seed, round, steps)."""
        meter = Meter()
        for step in range(steps):
            self._step(round, step, meter)
        return meter.report(steps)

    def state(self) -> dict[str, np.ndarray]:
        """The optimizer's state, see `PolicyGradient.state`."""
        return self.gradient.state()

    def load_state(self, state: dict[str, np.ndarray]) -> None:
        """Take back what `state` gave; raises ValueError where it does not fit."""
        self.gradient.load_state(state)

    def _step(self, round: int, step: int, meter: Meter) -> None:
        tasks = self.sampler.sample(self.settings.prompts, round, step)
        seeds = np.random.SeedSequence([self.seed, _STREAM, round, step]).generate_state(2)
        policy = self.gradient.digest()
        with meter.clock("generate"):
            rollout = self.gradient.sample(
                [task.prompt for task in tasks], self.settings.samples, int(seeds[0])
            )
        with meter.clock("score"):
            rewards_NG = task_rewards(tasks, rollout.texts)
            advantages_NG = advantages(tasks, rewards_NG, self.settings.scale_rewards, self.baseline)
        tokens = int(rollout.completion_mask.sum())
        meter.sampled([task.skill for task in tasks], rewards_NG, advantages_NG, tokens)
        meter.attempted(tasks, rollout.texts, rewards_NG, policy)
        scored = Scored(rollout, policy, advantages_NG.reshape(-1), self.settings.samples)
        self.gradient.update([scored], int(seeds[1]), meter)


def advantages(
    tasks: Sequence[Task], rewards_NG: torch.Tensor, scale: str, baseline: Baseline | None
) -> torch.Tensor:
    """[N, G]: relative to the group, mixed with relative to the network where there is a baseline for the skill."""
    if baseline is None:
        return group_advantages(rewards_NG, scale)
    values_N = torch.tensor([baseline.values.get(task.skill, math.nan) for task in tasks])
    return mixed_advantages(rewards_NG, values_N, baseline.weight, scale)


def task_rewards(tasks: Sequence[Task], texts: Sequence[str]) -> torch.Tensor:
    """Rewards float32 [N, G] in [0, 1] of texts grouped by task."""
    samples = len(texts) // len(tasks)
    repeated = [task for task in tasks for _ in range(samples)]
    rewards = [get_skill(t.skill).verify(t, text) for t, text in zip(repeated, texts, strict=True)]
    return torch.tensor(rewards, dtype=torch.float32).reshape(len(tasks), samples)
