"""GRPO's loss, advantages and KL estimator against values computed by hand and finite differences."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from symphony_fl.learning.rl.grpo_loss import group_advantages, grpo_loss, k3, mixed_advantages

LN2 = math.log(2.0)


def test_advantages_are_relative_to_the_group() -> None:
    rewards = torch.tensor([[1.0, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0]])
    assert group_advantages(rewards).tolist() == [[0.75, -0.25, -0.25, -0.25], [0.0] * 4]
    scaled = group_advantages(rewards, "group")  # standard deviation 0.5 with n - 1
    torch.testing.assert_close(scaled[0], torch.tensor([0.75, -0.25, -0.25, -0.25]) / 0.5001)
    assert scaled[1].tolist() == [0.0] * 4
    with pytest.raises(ValueError, match="scale_rewards 'std'"):
        group_advantages(rewards, "std")


GROUPS = st.lists(st.lists(st.integers(0, 16), min_size=4, max_size=4), min_size=1, max_size=3)
"""Rewards in sixteenths: sums and means of four are exact, so equality below is to the bit and no rounding's luck."""


@given(GROUPS, st.integers(0, 1024), st.integers(0, 8), st.sampled_from(["none", "group"]))
def test_a_shared_reward_that_is_added_changes_nothing(
    sixteenths: list[list[int]], shared: int, weight: int, scale: str
) -> None:
    """The naive way, local + weight * shared: not one bit of the advantages."""
    rewards = torch.tensor(sixteenths) / 16
    added = rewards + weight / 8 * shared / 1024
    assert torch.equal(group_advantages(added, scale), group_advantages(rewards, scale))


@given(GROUPS, st.integers(0, 1024), st.integers(0, 8))
def test_the_mixture_moves_each_group_by_its_lead(
    sixteenths: list[list[int]], shared: int, weight: int
) -> None:
    """r - mean(r) + weight * (mean(r) - baseline), which is another update wherever the two differ."""
    rewards, baseline, w = torch.tensor(sixteenths) / 16, shared / 1024, weight / 8
    mixed = mixed_advantages(rewards, torch.full((len(rewards),), baseline), w)
    relative = group_advantages(rewards)
    lead = rewards.mean(dim=1, keepdim=True) - baseline
    assert torch.equal(mixed, relative + w * lead)
    for row in range(len(rewards)):
        same = w * float(lead[row]) == 0
        assert torch.equal(mixed[row], relative[row]) == same


def test_mixed_advantages_by_hand() -> None:
    rewards = torch.tensor([[1.0, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0]])
    baseline = torch.tensor([0.5, 0.5, math.nan], dtype=torch.float64)
    mixed = mixed_advantages(rewards, baseline, 0.5)
    # 0.5 * 0.75 + 0.5 * 0.5, 0.5 * -0.25 + 0.5 * -0.5; all right: half of 0.5; no baseline: the group's
    assert mixed.tolist() == [[0.625, -0.375, -0.375, -0.375], [0.25] * 4, [0.0] * 4]
    assert mixed.dtype == torch.float32
    assert mixed_advantages(rewards[:2], baseline[:2], 1.0).tolist() == [[0.5, -0.5, -0.5, -0.5], [0.5] * 4]
    scaled = mixed_advantages(rewards, baseline, 0.5, "group")
    by_hand = 0.5 * torch.tensor([0.75, -0.25, -0.25, -0.25]) / 0.5001 + 0.5 * (rewards[0] - 0.5)
    torch.testing.assert_close(scaled[0], by_hand)


@pytest.mark.parametrize("scale", ["none", "group"])
def test_without_weight_or_baseline_it_is_the_group_to_the_bit(scale: str) -> None:
    rewards = torch.rand(5, 7, generator=torch.Generator().manual_seed(0))
    plain = group_advantages(rewards, scale)
    for baseline, weight in (
        (None, 0.7),
        (torch.full((5,), 0.3), 0.0),
        (torch.full((5,), math.nan), 0.0),
        (torch.full((5,), math.nan), 0.7),
    ):
        assert torch.equal(mixed_advantages(rewards, baseline, weight, scale), plain)
    assert not torch.equal(mixed_advantages(rewards, torch.full((5,), 0.3), 0.7, scale), plain)


def test_its_weight_alone_changes_the_update() -> None:
    """Gradients of the whole loss: the same bits without weight, others with it, also where all failed alike."""
    rewards, baseline = torch.tensor([[1.0, 0.0], [0.0, 0.0]]), torch.tensor([0.25, 0.25])
    old = torch.full((4, 3), -1.0)

    def gradient(advantages: torch.Tensor) -> torch.Tensor:
        logprobs = old.clone().requires_grad_()
        grpo_loss(logprobs, old, advantages.reshape(-1), torch.ones(4, 3), max_tokens=3).backward()
        assert logprobs.grad is not None
        return logprobs.grad

    without = gradient(group_advantages(rewards))
    assert torch.equal(gradient(mixed_advantages(rewards, baseline, 0.0)), without)
    assert torch.equal(gradient(group_advantages(rewards + 0.5 * baseline.unsqueeze(1))), without)
    changed = gradient(mixed_advantages(rewards, baseline, 0.5))
    # -A / (rows * max_tokens) with A = 0.5, -0.5 and 0, 0 plus 0.5 * (mean - 0.25): 0.125 and -0.125
    expected = -torch.tensor([0.625, -0.375, -0.125, -0.125]) / 12
    torch.testing.assert_close(changed, expected.unsqueeze(1).expand(4, 3))


@pytest.mark.parametrize(
    ("baseline", "weight", "message"),
    [
        (torch.zeros(2), -0.1, r"weight -0.1: must be in \[0, 1\]"),
        (torch.zeros(2), math.nan, "weight nan"),
        (None, 1.5, "weight 1.5"),
        (torch.zeros(3), 0.5, "must be 2 finite values or NaN"),
        (torch.zeros(2, 1), 0.0, "must be 2 finite values or NaN"),
        (torch.tensor([0.0, math.inf]), 0.5, "baseline: .*inf"),
    ],
)
def test_impossible_mixtures_are_refused(baseline: torch.Tensor | None, weight: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mixed_advantages(torch.zeros(2, 4), baseline, weight)
    with pytest.raises(ValueError, match="scale_rewards 'std'"):
        mixed_advantages(torch.zeros(2, 4), None, 0.0, "std")


def test_k3_by_hand() -> None:
    policy, reference = torch.tensor([0.0, LN2, -1.0]), torch.tensor([LN2, 0.0, -1.0])
    torch.testing.assert_close(k3(policy, reference), torch.tensor([2 - LN2 - 1, 0.5 + LN2 - 1, 0.0]))


def _batch() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Ratios [[1, 2], [1/2, 1]], of which the last is masked; advantages 1 and -1."""
    logprobs = torch.tensor([[-1.0, -1.0], [-1.0, -1.0]], requires_grad=True)
    old = torch.tensor([[-1.0, -1.0 - LN2], [-1.0 + LN2, -1.0]])
    return logprobs, old, torch.tensor([1.0, -1.0]), torch.tensor([[1, 1], [1, 0]])


@pytest.mark.parametrize(
    ("normalization", "expected"),
    # terms -min(ratio A, clipped A): -1, -1.28 (clipped at 1 + 0.28); 0.8 (min(-0.5, -0.8), clipped at 1 - 0.2)
    [
        ("dr_grpo", (-1.0 - 1.28 + 0.8) / (2 * 5)),
        ("token", (-1.0 - 1.28 + 0.8) / 3),
        ("sequence", ((-1.0 - 1.28) / 2 + 0.8) / 2),
    ],
)
def test_loss_and_gradient_by_hand(normalization: str, expected: float) -> None:
    logprobs, old, advantages, mask = _batch()
    loss = grpo_loss(
        logprobs,
        old,
        advantages,
        mask,
        clip_low=0.2,
        clip_high=0.28,
        normalization=normalization,
        max_tokens=5,
    )
    assert float(loss) == pytest.approx(expected, rel=1e-6)
    loss.backward()
    # only the first token is neither clipped nor masked: d(-ratio A)/d(logprob) = -1 over the divisor
    divisor = {"dr_grpo": 10, "token": 3, "sequence": 4}[normalization]
    torch.testing.assert_close(logprobs.grad, torch.tensor([[-1.0 / divisor, 0.0], [0.0, 0.0]]))


def test_a_ratio_outside_is_not_clipped_when_that_would_help() -> None:
    logprobs = torch.tensor([[-1.0], [-1.0]], requires_grad=True)
    old = torch.tensor([[-1.0 + LN2], [-1.0 - LN2]])  # ratio 1/2 with A = 1; ratio 2 with A = -1
    loss = grpo_loss(logprobs, old, torch.tensor([1.0, -1.0]), torch.ones(2, 1), max_tokens=1)
    assert float(loss) == pytest.approx((-0.5 + 2.0) / 2)
    loss.backward()
    torch.testing.assert_close(logprobs.grad, torch.tensor([[-0.25], [1.0]]))


def test_kl_is_added_per_token() -> None:
    logprobs, old, advantages, mask = _batch()
    reference = logprobs.detach() + torch.tensor([[LN2, 0.0], [0.0, 7.0]])
    without = grpo_loss(logprobs, old, advantages, mask, normalization="token", max_tokens=5)
    loss = grpo_loss(
        logprobs, old, advantages, mask, kl=0.1, ref_logprobs=reference, normalization="token", max_tokens=5
    )
    assert float(loss - without) == pytest.approx(0.1 * (2 - LN2 - 1) / 3, rel=1e-4)
    with pytest.raises(ValueError, match="needs ref_logprobs"):
        grpo_loss(logprobs, old, advantages, mask, kl=0.1, max_tokens=5)


@pytest.mark.parametrize("junk", [math.nan, math.inf, -math.inf, 1e30])
@pytest.mark.parametrize("normalization", ["dr_grpo", "token", "sequence"])
def test_what_is_masked_does_not_matter(junk: float, normalization: str) -> None:
    logprobs, old, advantages, mask = _batch()
    spoilt = logprobs.detach().clone().masked_fill(mask == 0, junk).requires_grad_()
    losses = [
        grpo_loss(
            entry, old, advantages, mask, kl=0.1, ref_logprobs=old, normalization=normalization, max_tokens=5
        )
        for entry in (logprobs, spoilt)
    ]
    for loss in losses:
        loss.backward()
    assert float(losses[0]) == float(losses[1])
    assert spoilt.grad is not None and logprobs.grad is not None and torch.equal(spoilt.grad, logprobs.grad)


@pytest.mark.parametrize("normalization", ["dr_grpo", "token", "sequence"])
def test_gradient_by_finite_differences(normalization: str) -> None:
    generator = torch.Generator().manual_seed(0)
    draw = torch.randn(3, 4, 5, dtype=torch.float64, generator=generator)
    logprobs, old, reference = (-draw[i].abs() for i in range(3))
    old = logprobs + 0.3 * old
    advantages = torch.tensor([1.0, -0.5, 0.25, -1.0], dtype=torch.float64)
    mask = torch.arange(5) < torch.tensor([[5], [3], [1], [4]])

    def loss(entry: torch.Tensor) -> torch.Tensor:
        return grpo_loss(
            entry,
            old,
            advantages,
            mask,
            kl=0.2,
            ref_logprobs=reference,
            normalization=normalization,
            max_tokens=7,
        )

    assert torch.autograd.gradcheck(loss, (logprobs.requires_grad_(),))


def test_an_unknown_normalization_is_refused() -> None:
    logprobs, old, advantages, mask = _batch()
    with pytest.raises(ValueError, match="normalization 'mean': one of dr_grpo, token, sequence"):
        grpo_loss(logprobs, old, advantages, mask, normalization="mean", max_tokens=5)


def _gradient(ratio: str, logprobs: list[float], old: list[float], advantage: float) -> list[float]:
    given = torch.tensor([logprobs], requires_grad=True)
    mask = torch.ones_like(given)
    loss = grpo_loss(given, torch.tensor([old]), torch.tensor([advantage]), mask, max_tokens=1, ratio=ratio)
    (found,) = torch.autograd.grad(loss, given)
    return [round(value, 6) for value in found[0].tolist()]


def test_how_tokens_of_older_weights_count_by_hand() -> None:
    """Ratios 1, 1/2, 3; the gradient of a token is -(weight) x advantage."""
    new, old = [-1.0, -1.0 - LN2, -1.0], [-1.0, -1.0, -1.0 - math.log(3.0)]
    assert _gradient("clipped", new, old, 1.0) == [-1.0, -0.5, 0.0], "beyond 1.28 nothing is gained"
    assert _gradient("clipped", new, old, -1.0) == [1.0, 0.0, 3.0], "below 0.8 nothing is lost"
    assert _gradient("truncated", new, old, 1.0) == [-1.0, -0.5, -2.0]
    assert _gradient("truncated", new, old, -1.0) == [1.0, 0.5, 2.0]
    assert _gradient("none", new, old, 1.0) == [-1.0, -1.0, -1.0]
    with pytest.raises(ValueError, match="ratio 'some'"):
        _gradient("some", new, old, 1.0)


def test_on_policy_all_ratios_are_one_gradient() -> None:
    new = [-0.5, -1.5, -2.5]
    assert _gradient("clipped", new, new, 0.7) == _gradient("truncated", new, new, 0.7)
    assert _gradient("clipped", new, new, 0.7) == _gradient("none", new, new, 0.7)
