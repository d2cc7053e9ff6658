"""GRPO's loss, advantages and KL estimator against values computed by hand and finite differences."""

from __future__ import annotations

import math

import pytest
import torch

from symphony_fl.learning.grpo_loss import group_advantages, grpo_loss, k3

LN2 = math.log(2.0)


def test_advantages_are_relative_to_the_group() -> None:
    rewards = torch.tensor([[1.0, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0]])
    assert group_advantages(rewards).tolist() == [[0.75, -0.25, -0.25, -0.25], [0.0] * 4]
    scaled = group_advantages(rewards, "group")  # standard deviation 0.5 with n - 1
    torch.testing.assert_close(scaled[0], torch.tensor([0.75, -0.25, -0.25, -0.25]) / 0.5001)
    assert scaled[1].tolist() == [0.0] * 4
    with pytest.raises(ValueError, match="scale_rewards 'std'"):
        group_advantages(rewards, "std")


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
