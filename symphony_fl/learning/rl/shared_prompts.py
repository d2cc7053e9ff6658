"""Log-probabilities for the training pass of a group sampler: what is the same in several rows is read once.

The G samples of a GRPO group share their prompt. Read as G rows of P + T tokens, the prompt costs G P of the
G (P + T) tokens of a forward and backward pass. Here the U distinct prompts are read once, their key-value cache
is repeated for the rows of the group, and only the completions are read per row. Equal samples of a group are one
row: U P + D (T - 1) tokens for D distinct rows. The gradient flows back through what is repeated, so it is that of
the plain computation.

Measured on one core, 6 prompts of 50 tokens x 8 samples of 6 tokens, SmolLM2-135M in float32: forward and
backward 7 s against 44 s; on the embedded model (32 prompts x 8, 10 + 9 tokens) 0.13 s against 0.20 s, both
before equal samples were one row (on the embedded model 28 of 71 are distinct, `default` after one round).

Shapes: B rows, D distinct rows, U distinct prompts, P prompt tokens, T completion tokens, V vocabulary.
"""

from __future__ import annotations

import torch

from symphony_fl.learning.model.forward import Forward, forward_of


def completion_logprobs(
    model: torch.nn.Module | Forward,
    prompt_ids: torch.Tensor,
    prompt_mask: torch.Tensor,
    completion_ids: torch.Tensor,
    completion_mask: torch.Tensor,
    *,
    temperature: float = 1.0,
) -> torch.Tensor:
    """Log-probability of every completion token given what precedes it, float32 [B, T], with gradient.

    Parameters
    ----------
    prompt_ids, prompt_mask : [B, P], padded on the left.
    completion_ids, completion_mask : [B, T], padded on the right.

    Masked entries hold the log-probability of the padding and mean nothing.
    """
    rows_D, place_B = distinct_rows(prompt_ids, prompt_mask, completion_ids, completion_mask)
    ids = completion_ids[rows_D]
    logits = _logits(model, prompt_ids[rows_D], prompt_mask[rows_D], ids, completion_mask[rows_D])
    if temperature != 1.0:
        logits = logits / temperature
    chosen = logits.gather(2, ids.unsqueeze(2)).squeeze(2)
    return (chosen - torch.logsumexp(logits, dim=2))[place_B]


def completion_logits(
    model: torch.nn.Module | Forward,
    prompt_ids: torch.Tensor,
    prompt_mask: torch.Tensor,
    completion_ids: torch.Tensor,
    completion_mask: torch.Tensor,
) -> torch.Tensor:
    """What every completion token was chosen by, float32 [B, T, V], with gradient. Arguments as above."""
    rows_D, place_B = distinct_rows(prompt_ids, prompt_mask, completion_ids, completion_mask)
    rows = (prompt_ids[rows_D], prompt_mask[rows_D], completion_ids[rows_D], completion_mask[rows_D])
    return _logits(model, *rows)[place_B]


def _logits(
    model: torch.nn.Module | Forward,
    prompt_ids: torch.Tensor,
    prompt_mask: torch.Tensor,
    completion_ids: torch.Tensor,
    completion_mask: torch.Tensor,
) -> torch.Tensor:
    """[D, T, V]: every prompt is read once, every completion in full."""
    width = prompt_ids.shape[1]
    forward = forward_of(model)
    cache = forward.new_cache()
    prompts_U, source_D = distinct_rows(prompt_ids, prompt_mask)
    asked, asked_mask = prompt_ids[prompts_U], prompt_mask[prompts_U]
    first = forward.logits(asked, asked_mask, _positions(asked_mask), cache, last_only=True)
    logits = first[source_D]  # [D, 1, V]: predicts the first completion token
    if completion_ids.shape[1] > 1:
        cache.batch_select_indices(source_D)
        mask = torch.cat([prompt_mask, completion_mask], dim=1)[:, :-1]
        positions = _positions(mask)[:, width:]
        rest = forward.logits(completion_ids[:, :-1], mask, positions, cache, last_only=False)
        logits = torch.cat([logits, rest], dim=1)
    return logits


def distinct_rows(*columns: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(one row of each kind int64 [D], the place in it of every row's kind int64 [B]), in the kinds' first order."""
    place_of: dict[bytes, int] = {}
    rows = torch.cat(columns, dim=1).cpu().numpy()
    place_B = [place_of.setdefault(row.tobytes(), len(place_of)) for row in rows]
    first = [place_B.index(place) for place in range(len(place_of))]
    device = columns[0].device
    return (
        torch.tensor(first, dtype=torch.int64, device=device),
        torch.tensor(place_B, dtype=torch.int64, device=device),
    )


def _positions(mask: torch.Tensor) -> torch.Tensor:
    """Position ids [B, n] that count from each row's first real token."""
    return (mask.cumsum(dim=1) - 1).clamp(min=0)
