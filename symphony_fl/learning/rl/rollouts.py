"""Rollouts that were sampled elsewhere: made into what the learner reads, and checked against the weights they name.

After INTELLECT-2 (arXiv 2505.07291, section 2.3), whose workers commit to hidden states that the trainer recomputes:
here they send the log-probabilities they sampled with, and every one of them is recomputed. Chance is not theirs
either: a token follows from one number in [0, 1) that the step's seed gives, so a worker that keeps what it likes is
found out.

Shapes: B rows, T completion tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from symphony_fl.learning.model.adapters import Policy
from symphony_fl.learning.model.base_model import Base
from symphony_fl.learning.rl.sampling import Rollout, encode_prompts, uniforms
from symphony_fl.learning.rl.shared_prompts import completion_logits


def flat_completions(rollout: Rollout) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(lengths int64 [B], token ids int64 [S], log-probabilities float32 [S]), completion after completion."""
    mask = rollout.completion_mask.bool()
    lengths = rollout.completion_mask.sum(dim=1)
    found = (lengths, rollout.completion_ids[mask], rollout.logprobs[mask])
    return found[0].cpu().numpy(), found[1].cpu().numpy(), found[2].cpu().numpy()


def rebuilt(
    base: Base, prompts: Sequence[str], lengths: np.ndarray, ids: np.ndarray, logprobs: np.ndarray
) -> Rollout:
    """The rollout that `flat_completions` was taken of, to the bit; `prompts` are those of its B rows."""
    tokenizer, device = base.tokenizer, next(base.model.parameters()).device
    prompt_ids, prompt_mask, source_B = encode_prompts(tokenizer, prompts, device)
    counts = torch.from_numpy(lengths)
    mask = torch.arange(int(counts.max())).unsqueeze(0) < counts.unsqueeze(1)  # [B, T]
    completion_ids = torch.full(mask.shape, tokenizer.pad_token_id, dtype=torch.int64)
    recorded = torch.zeros(mask.shape, dtype=torch.float32)
    completion_ids[mask], recorded[mask] = torch.from_numpy(ids), torch.from_numpy(logprobs)
    return Rollout(
        prompt_ids[source_B],
        prompt_mask[source_B],
        completion_ids.to(device),
        mask.long().to(device),
        recorded.to(device),
        tokenizer.batch_decode(completion_ids, skip_special_tokens=True),
    )


def check_sampled(
    policy: Policy,
    rollout: Rollout,
    *,
    temperature: float,
    max_new_tokens: int,
    seed: int,
    rows_per_pass: int,
) -> tuple[float, float]:
    """How far a rollout is from what the adapter in `policy` samples with this seed.

    Returns
    -------
    (largest |recorded - recomputed log-probability| over all tokens, largest distance of a token's chance number to the
    interval of the cumulative distribution that is the token's own)

    Both are 0 up to rounding if the adapter sampled it. NaN is never returned: it counts as infinite.
    """
    drawn_BT = uniforms(len(rollout.completion_mask), max_new_tokens, temperature, seed)
    forward = policy.forward(train=False)
    furthest, misses = 0.0, 0.0
    for start in range(0, len(drawn_BT), rows_per_pass):
        rows = slice(start, start + rows_per_pass)
        mask = rollout.completion_mask[rows]
        ids = rollout.completion_ids[rows]
        with torch.no_grad():
            logits = completion_logits(
                forward, rollout.prompt_ids[rows], rollout.prompt_mask[rows], ids, mask
            )
        logprobs = torch.log_softmax(logits / temperature, dim=2)  # [B, T, V]
        chosen = logprobs.gather(2, ids.unsqueeze(2)).squeeze(2)
        apart = ((chosen - rollout.logprobs[rows]).abs() * mask).nan_to_num(nan=float("inf"))
        cumulative = logprobs.double().exp().cumsum(dim=2)
        above = cumulative.gather(2, ids.unsqueeze(2)).squeeze(2)
        below = above - chosen.double().exp()
        point = drawn_BT[rows, : ids.shape[1]].to(above.device) * cumulative[:, :, -1]
        missed = (torch.maximum(below - point, point - above).clamp(min=0) * mask).nan_to_num(
            nan=float("inf")
        )
        furthest, misses = max(furthest, float(apart.max())), max(misses, float(missed.max()))
    return furthest, misses
