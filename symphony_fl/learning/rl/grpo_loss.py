"""The mathematics of GRPO as pure functions; `grpo.py` says what departs from the paper and why.

Shapes: N prompts, G samples each, B rows, T completion tokens.
"""

from __future__ import annotations

import torch

NORMALIZATIONS = ("dr_grpo", "token", "sequence")
SCALES = ("none", "group")
RATIOS = ("clipped", "truncated", "none")


def group_advantages(rewards: torch.Tensor, scale: str = "none") -> torch.Tensor:
    """Reward relative to its group: [N, G] -> [N, G]. ``scale="group"`` divides by the standard deviation + 1e-4."""
    centred = rewards - rewards.mean(dim=1, keepdim=True)
    if scale == "none":
        return centred
    if scale == "group":
        return centred / (rewards.std(dim=1, keepdim=True) + 1e-4)  # n - 1 in the variance, as TRL
    raise ValueError(f"scale_rewards {scale!r}: one of {', '.join(SCALES)}")


def mixed_advantages(
    rewards_NG: torch.Tensor, baseline_N: torch.Tensor | None, weight: float, scale: str = "none"
) -> torch.Tensor:
    """(1 - weight) * `group_advantages` + weight * (rewards - baseline): [N, G] -> [N, G].

    How the shared reward of section 5.2 (4) enters GRPO. Just added to the rewards it is the same for all samples of a
    group and goes with their mean: (r + s) - mean(r + s) = r - mean(r), whatever s and whatever its weight. As a
    baseline it stays: with ``scale="none"`` the mixture is r - mean(r) + weight * (mean(r) - baseline), so a group that
    did better than the network lately did is raised as a whole, one that did worse is lowered, and groups whose
    samples all earned the same, which GRPO learns nothing from, have a gradient.

    It is a reference and no further incentive: a baseline that does not depend on the samples (the past's, hence the
    delay) changes the variance of a policy gradient and not the direction it has on average (Williams, "Simple
    statistical gradient-following algorithms for connectionist reinforcement learning", 1992).

    Parameters
    ----------
    baseline_N : the shared value of each prompt's skill, [N]; NaN where there is none yet; None where there is none
        at all. Without one, or with ``weight`` 0, advantages are those of `group_advantages` to the bit.
    weight : in [0, 1].
    scale : of the group's part only; with "group" the two parts have different units.

    Raises
    ------
    ValueError
        ``weight`` is out of range, ``baseline_N`` is infinite or not one per prompt, an unknown ``scale``.
    """
    if not 0 <= weight <= 1:
        raise ValueError(f"weight {weight}: must be in [0, 1]")
    relative_NG = group_advantages(rewards_NG, scale)
    if baseline_N is None:
        return relative_NG
    if baseline_N.shape != rewards_NG.shape[:1] or baseline_N.isinf().any():
        raise ValueError(f"baseline: {baseline_N.tolist()}, must be {len(rewards_NG)} finite values or NaN")
    if weight == 0:
        return relative_NG
    baseline_N1 = baseline_N.to(rewards_NG).unsqueeze(1)
    mixed_NG = (1 - weight) * relative_NG + weight * (rewards_NG - baseline_N1)
    return torch.where(baseline_N1.isnan(), relative_NG, mixed_NG)


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
    ratio: str = "clipped",
    ratio_cap: float = 2.0,
) -> torch.Tensor:
    """DeepSeekMath eq. 3 with the sign of a loss: a scalar with gradient to ``logprobs``.

    Parameters
    ----------
    logprobs, old_logprobs, ref_logprobs, mask : [B, T]; entries under mask 0 are ignored whatever they hold.
    advantages : [B].
    normalization : the per-token terms are summed and divided "dr_grpo": by B * max_tokens (a constant); "token":
        by the number of tokens of the batch (DAPO; TRL's "bnpo"); "sequence": by each completion's length, then
        averaged over the B rows (the paper; TRL's "grpo").
    max_tokens : the longest completion the sampler allows.
    ratio : how a token counts that an older policy sampled, by r = exp(logprobs - old_logprobs): "clipped": PPO's
        min(r A, clip(r) A); beyond the clip a token has no gradient; "truncated": min(r, ``ratio_cap``) A, through
        which no gradient flows, times the log-probability: truncated importance sampling (Espeholt et al.,
        "IMPALA", arXiv 1802.01561), every token keeps a bounded one; "none": A times the log-probability, as if the
        policy in training had sampled it. All three have the same gradient where r = 1.

    Raises
    ------
    ValueError
        An unknown normalization or ratio, or ``kl`` > 0 without ``ref_logprobs``.
    """
    keep = mask.bool()
    ratios = (logprobs - old_logprobs).masked_fill(~keep, 0.0).exp()
    advantage = advantages.unsqueeze(1)
    if ratio == "clipped":
        clipped = ratios.clamp(1 - clip_low, 1 + clip_high)
        terms = -torch.minimum(ratios * advantage, clipped * advantage)
    elif ratio in RATIOS:
        weights = ratios.detach().clamp(max=ratio_cap) if ratio == "truncated" else torch.ones_like(ratios)
        terms = -weights * advantage * logprobs
    else:
        raise ValueError(f"ratio {ratio!r}: one of {', '.join(RATIOS)}")
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
