"""Log-probabilities for the training pass of a group sampler: each distinct prompt is read once.

The G samples of a GRPO group share their prompt. Read as G rows of P + T tokens, the prompt costs G P of the
G (P + T) tokens of a forward and backward pass. Here the U distinct prompts are read once, their key-value cache
is repeated for the rows of the group, and only the completions are read per row: U P + B (T - 1) tokens. The
gradient flows back through the repeated cache, so it is that of the plain computation.

Measured on one core, 6 prompts of 50 tokens x 8 samples of 6 tokens, SmolLM2-135M in float32: forward and
backward 7 s against 44 s; on the embedded model (32 prompts x 8, 10 + 9 tokens) 0.13 s against 0.20 s.
"""

from __future__ import annotations

import torch
from transformers import DynamicCache


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

    Args:
        prompt_ids, prompt_mask: [B, P], padded on the left; equal rows are read once.
        completion_ids, completion_mask: [B, T], padded on the right.

    Masked entries hold the log-probability of the padding and mean nothing.
    """
    logits = completion_logits(model, prompt_ids, prompt_mask, completion_ids, completion_mask)
    if temperature != 1.0:
        logits = logits / temperature
    chosen = logits.gather(2, completion_ids.unsqueeze(2)).squeeze(2)
    return chosen - torch.logsumexp(logits, dim=2)


def completion_logits(
    model: torch.nn.Module,
    prompt_ids: torch.Tensor,
    prompt_mask: torch.Tensor,
    completion_ids: torch.Tensor,
    completion_mask: torch.Tensor,
) -> torch.Tensor:
    """What every completion token was chosen by, float32 [B, T, V], with gradient. Arguments as above."""
    width = prompt_ids.shape[1]
    distinct, source_B = torch.unique(torch.cat([prompt_ids, prompt_mask], dim=1), dim=0, return_inverse=True)
    cache = DynamicCache(config=model.config)
    first = model(
        input_ids=distinct[:, :width],
        attention_mask=distinct[:, width:],
        position_ids=_positions(distinct[:, width:]),
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    ).logits  # [U, 1, V]: predicts the first completion token
    logits: torch.Tensor = first[source_B]
    if completion_ids.shape[1] > 1:
        cache.batch_select_indices(source_B)
        mask = torch.cat([prompt_mask, completion_mask], dim=1)[:, :-1]
        rest = model(
            input_ids=completion_ids[:, :-1],
            attention_mask=mask,
            position_ids=_positions(mask)[:, width:],
            past_key_values=cache,
            use_cache=True,
        ).logits
        logits = torch.cat([logits, rest], dim=1)
    return logits.float()


def _positions(mask: torch.Tensor) -> torch.Tensor:
    """Position ids [B, n] that count from each row's first real token."""
    return (mask.cumsum(dim=1) - 1).clamp(min=0)
