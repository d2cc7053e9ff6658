"""Greedy accuracy by skill, as an agent's evaluation has it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import PreTrainedTokenizerBase

from symphony_fl.learning.rl.sampling import greedy_rewards, mean_by_skill
from symphony_fl.learning.skills import Task


def accuracy(
    model: torch.nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    tasks: Sequence[Task],
    *,
    max_new_tokens: int,
    batch_size: int,
) -> dict[str, float]:
    """Greedy: the mean reward per skill, in the order in which the skills first occur in ``tasks``."""
    rewards = greedy_rewards(model, tokenizer, tasks, max_new_tokens=max_new_tokens, batch_size=batch_size)
    return mean_by_skill(tasks, rewards)
