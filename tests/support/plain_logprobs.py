"""The plain form of the log-probabilities that `shared_prompts.py` finds faster: one row each, nothing shared."""

from __future__ import annotations

import torch


def completion_logprobs(
    model: torch.nn.Module,
    prompt_ids: torch.Tensor,
    prompt_mask: torch.Tensor,
    completion_ids: torch.Tensor,
    completion_mask: torch.Tensor,
    *,
    temperature: float = 1.0,
) -> torch.Tensor:
    """Log-probability of every completion token given what precedes it, float32 [B, T], with gradient.

    Arguments as in `Rollout`. Logits exist for the completion's positions only. Masked entries hold the
    log-probability of the padding and mean nothing.
    """
    mask = torch.cat([prompt_mask, completion_mask], dim=1)
    length = completion_ids.shape[1]
    logits: torch.Tensor = model(
        input_ids=torch.cat([prompt_ids, completion_ids], dim=1),
        attention_mask=mask,
        position_ids=(mask.cumsum(dim=1) - 1).clamp(min=0),
        logits_to_keep=length + 1,
        use_cache=False,
    ).logits[:, :-1]  # [B, T, V]: position P-1+t predicts completion token t
    logits = logits.float()
    if temperature != 1.0:
        logits = logits / temperature
    chosen = logits.gather(2, completion_ids.unsqueeze(2)).squeeze(2)
    return chosen - torch.logsumexp(logits, dim=2)
