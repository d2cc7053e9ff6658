"""Reading each prompt once gives the log-probabilities and the gradient of reading it with every sample."""

from __future__ import annotations

import pytest
import torch
from plain_logprobs import completion_logprobs as one_row_each
from transformers import LlamaConfig, LlamaForCausalLM

from symphony_fl.learning.rl.shared_prompts import completion_logprobs

VOCABULARY = 24


@pytest.fixture(scope="module")
def model() -> LlamaForCausalLM:
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, initializer_range=0.2,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return LlamaForCausalLM(config)


def _batch(rows: list[int], lengths: list[int], width: int, seed: int) -> tuple[torch.Tensor, ...]:
    """Left-padded prompts: row b holds prompt rows[b]; completions of the given lengths."""
    generator = torch.Generator().manual_seed(seed)
    prompts = torch.randint(1, VOCABULARY, (max(rows) + 1, 7), generator=generator)
    prompt_mask = torch.ones_like(prompts)
    for row in range(len(prompts)):
        prompts[row, : row % 4] = 0
        prompt_mask[row, : row % 4] = 0
    completions = torch.randint(1, VOCABULARY, (len(rows), width), generator=generator)
    mask = (torch.arange(width) < torch.tensor(lengths).unsqueeze(1)).long()
    return prompts[rows], prompt_mask[rows], completions * mask, mask


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize(
    ("rows", "lengths"),
    [
        ([0, 0, 0, 1, 1, 1, 2, 2, 2], [5, 3, 1, 2, 5, 4, 1, 1, 5]),
        ([2, 0, 1, 0, 3, 2], [5, 5, 2, 1, 3, 4]),  # any order, groups of any size
        ([0], [3]),
    ],
)
def test_same_as_one_row_each(
    model: LlamaForCausalLM, rows: list[int], lengths: list[int], temperature: float
) -> None:
    batch = _batch(rows, lengths, width=max(lengths), seed=1)
    weights = torch.randn(len(rows), max(lengths), generator=torch.Generator().manual_seed(2)) * batch[3]
    results = []
    for method in (one_row_each, completion_logprobs):
        model.zero_grad()
        logprobs = method(model, *batch, temperature=temperature)
        (logprobs * weights).sum().backward()
        gradient = torch.cat([p.grad.reshape(-1) for p in model.parameters() if p.grad is not None])
        results.append((logprobs.detach(), gradient))
    (expected, expected_gradient), (found, gradient) = results
    assert found.shape == (len(rows), max(lengths)) and found.dtype == torch.float32
    torch.testing.assert_close(found * batch[3], expected * batch[3], rtol=1e-5, atol=1e-5)
    assert float((gradient - expected_gradient).norm() / expected_gradient.norm()) < 1e-5


def test_completions_of_one_token(model: LlamaForCausalLM) -> None:
    batch = _batch([0, 0, 1], [1, 1, 1], width=1, seed=3)
    torch.testing.assert_close(completion_logprobs(model, *batch), one_row_each(model, *batch))
