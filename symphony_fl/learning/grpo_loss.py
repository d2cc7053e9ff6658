"""The mathematics of GRPO as pure functions; `grpo.py` says what departs from the paper and why.

Shapes: N prompts, G samples each, B rows, T completion tokens.
"""

from __future__ import annotations

import torch

NORMALIZATIONS = ("dr_grpo", "token", "sequence")
SCALES = ("none", "group")


def group_advantages(rewards: torch.Tensor, scale: str = "none") -> torch.Tensor:
    """Reward relative to its group: [N, G] -> [N, G]. ``scale="group"`` divides by the standard deviation + 1e-4."""
    centred = rewards - rewards.mean(dim=1, keepdim=True)
    if scale == "none":
        return centred
    if scale == "group":
        return centred / (rewards.std(dim=1, keepdim=True) + 1e-4)  # n - 1 in the variance, as TRL
    raise ValueError(f"scale_rewards {scale!r}: one of {', '.join(SCALES)}")


def k3(logprobs: torch.Tensor, ref_logprobs: torch.Tensor) -> torch.Tensor:
    """Schulman's k3 estimator of KL(policy || reference) per sampled token: r - log r - 1, r = reference / policy."""
    log_ratio = ref_logprobs - logprobs
    return log_ratio.exp() - log_ratio - 1


def grpo_loss(
    logprobs: torch.Tensor,
    old_logprobs: torch.Tensor,
    advantages: torch.Tensor,
    mask: torch.Tensor,
    *,
    clip_low: float = 0.2,
    clip_high: float = 0.28,
    kl: float = 0.0,
    ref_logprobs: torch.Tensor | None = None,
    normalization: str = "dr_grpo",
    max_tokens: int,
) -> torch.Tensor:
    """DeepSeekMath eq. 3 with the sign of a loss: a scalar with gradient to ``logprobs``.

    Args:
        logprobs, old_logprobs, ref_logprobs, mask: [B, T]; entries under mask 0 are ignored whatever they hold.
        advantages: [B].
        normalization: the per-token terms are summed and divided
            "dr_grpo": by B * max_tokens (a constant);
            "token": by the number of tokens of the batch (DAPO; TRL's "bnpo");
            "sequence": by each completion's length, then averaged over the B rows (the paper; TRL's "grpo").
        max_tokens: the longest completion the sampler allows.

    Raises:
        ValueError: an unknown normalization, or ``kl`` > 0 without ``ref_logprobs``.
    """
    keep = mask.bool()
    ratio = (logprobs - old_logprobs).masked_fill(~keep, 0.0).exp()
    advantage = advantages.unsqueeze(1)
    clipped = ratio.clamp(1 - clip_low, 1 + clip_high)
    terms = -torch.minimum(ratio * advantage, clipped * advantage)
    if kl > 0:
        if ref_logprobs is None:
            raise ValueError("a KL term needs ref_logprobs")
        terms = terms + kl * k3(logprobs.masked_fill(~keep, 0.0), ref_logprobs.masked_fill(~keep, 0.0))
    terms = terms.masked_fill(~keep, 0.0)
    lengths = keep.sum(dim=1)
    if normalization == "dr_grpo":
        return terms.sum() / (len(terms) * max_tokens)
    if normalization == "token":
        return terms.sum() / lengths.sum().clamp(min=1)
    if normalization == "sequence":
        return (terms.sum(dim=1) / lengths.clamp(min=1)).mean()
    raise ValueError(f"normalization {normalization!r}: one of {', '.join(NORMALIZATIONS)}")
