"""The sampler against transformers' generate, against itself, and against the distribution it claims."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from greedy import accuracy
from plain_logprobs import completion_logprobs
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from symphony_fl.learning.model.forward import forward_of
from symphony_fl.learning.model.tiny import initial_model, tiny_tokenizer
from symphony_fl.learning.rl import sampling
from symphony_fl.learning.rl.sampling import Rollout, generate
from symphony_fl.learning.skills import SKILLS, Task
from symphony_fl.learning.skills.symbolic import SYMBOLIC
from symphony_fl.learning.tasks.task_sampler import held_out

PROMPTS = ["<max>39=", "<reverse>abcdefg=", "<max>39=", "<add>1+2=", "<sort>a=", "<max>39="]


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return tiny_tokenizer()


@pytest.fixture(scope="module")
def model() -> LlamaForCausalLM:
    """An untrained model, sharpened so that greedy answers differ and some samples end early."""
    model = initial_model(5).eval()
    with torch.no_grad():
        model.model.norm.weight.mul_(3.0)
    return model


def _sample(
    model: torch.nn.Module, tokenizer: PreTrainedTokenizerFast, seed: int = 0, n: int = 12
) -> Rollout:
    return generate(model, tokenizer, PROMPTS, max_new_tokens=n, temperature=1.0, seed=seed)


def test_greedy_is_transformers_greedy(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    ours = generate(model, tokenizer, PROMPTS, max_new_tokens=10, temperature=0.0, seed=None)
    encoded = tokenizer(PROMPTS, padding=True, return_tensors="pt")
    theirs = model.generate(**encoded, max_new_tokens=10, do_sample=False)[:, encoded["input_ids"].shape[1] :]
    assert torch.equal(ours.completion_ids, theirs)
    assert torch.equal(ours.prompt_ids, encoded["input_ids"])
    assert torch.equal(ours.prompt_mask, encoded["attention_mask"])
    assert ours.texts == tokenizer.batch_decode(theirs, skip_special_tokens=True)


def test_logprobs_are_those_of_one_plain_forward_pass_per_row(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    temperature = 0.7
    rollout = generate(model, tokenizer, PROMPTS, max_new_tokens=12, temperature=temperature, seed=1)
    for row, prompt in enumerate(PROMPTS):
        ids = tokenizer(prompt)["input_ids"]
        answer = rollout.completion_ids[row][rollout.completion_mask[row].bool()]
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([[*ids, *answer]])).logits[0, len(ids) - 1 : -1]
        expected = torch.log_softmax(logits / temperature, dim=1).gather(1, answer[:, None]).squeeze(1)
        torch.testing.assert_close(rollout.logprobs[row, : len(answer)], expected, atol=2e-5, rtol=1e-4)
        assert (rollout.logprobs[row, len(answer) :] == 0).all()


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_training_logprobs_are_the_sampling_ones(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, temperature: float
) -> None:
    rollout = generate(model, tokenizer, PROMPTS, max_new_tokens=12, temperature=temperature, seed=2)
    again = completion_logprobs(
        model,
        rollout.prompt_ids,
        rollout.prompt_mask,
        rollout.completion_ids,
        rollout.completion_mask,
        temperature=temperature,
    )
    assert again.requires_grad
    torch.testing.assert_close(
        again.detach() * rollout.completion_mask, rollout.logprobs, atol=2e-5, rtol=1e-4
    )


def test_bfloat16_samples_by_float32_logprobs(tokenizer: PreTrainedTokenizerFast) -> None:
    model = initial_model(5).to(torch.bfloat16).eval()
    rollout = _sample(model, tokenizer)
    assert rollout.logprobs.dtype == torch.float32
    with torch.no_grad():
        again = completion_logprobs(
            model, rollout.prompt_ids, rollout.prompt_mask, rollout.completion_ids, rollout.completion_mask
        )
    difference = (again - rollout.logprobs).abs() * rollout.completion_mask
    assert difference.max() < 0.1 and difference.sum() / rollout.completion_mask.sum() < 0.02


def test_rows_end_with_the_end_of_sequence(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    prompts = PROMPTS * 20
    rollout = generate(model, tokenizer, prompts, max_new_tokens=12, temperature=1.5, seed=0)
    eos, early = tokenizer.eos_token_id, 0
    for ids, mask in zip(rollout.completion_ids.tolist(), rollout.completion_mask.tolist(), strict=True):
        length = sum(mask)
        assert mask == [1] * length + [0] * (len(mask) - length)
        assert eos not in ids[: length - 1]
        assert ids[length:] == [tokenizer.pad_token_id] * (len(ids) - length)
        if length < len(ids):
            assert ids[length - 1] == eos
            early += 1
    assert early > 10  # the case was met
    assert rollout.completion_mask.sum(1).max() == rollout.completion_ids.shape[1]


def test_samples_do_not_depend_on_shared_states(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    def one_state_each(
        state: torch.Tensor, token: torch.Tensor, vocabulary: int
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        return state, token, torch.arange(len(state))

    shared = generate(model, tokenizer, PROMPTS * 8, max_new_tokens=12, temperature=1.5, seed=4)
    monkeypatch.setattr(sampling, "_states", one_state_each)
    apart = generate(model, tokenizer, PROMPTS * 8, max_new_tokens=12, temperature=1.5, seed=4)
    assert torch.equal(shared.completion_ids, apart.completion_ids)
    assert torch.equal(shared.completion_mask, apart.completion_mask)
    torch.testing.assert_close(shared.logprobs, apart.logprobs, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("temperature", [0.0, 0.4])
def test_equal_beginnings_are_read_once(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, temperature: float
) -> None:
    class Counting:
        """The model's forward pass, noting how many rows it was asked to read each time."""

        def __init__(self) -> None:
            self.inner = forward_of(model)
            self.device = self.inner.device
            self.new_cache = self.inner.new_cache
            self.read: list[int] = []

        def logits(self, ids: torch.Tensor, *others: object, last_only: bool) -> torch.Tensor:
            self.read.append(len(ids))
            return self.inner.logits(ids, *others, last_only=last_only)

    counting = Counting()
    rollout = generate(counting, tokenizer, PROMPTS * 8, max_new_tokens=12, temperature=temperature, seed=4)
    rows = list(
        zip(PROMPTS * 8, rollout.completion_ids.tolist(), rollout.completion_mask.tolist(), strict=True)
    )
    eos = tokenizer.eos_token_id
    expected = [
        len({(prompt, *ids[:t]) for prompt, ids, mask in rows if sum(mask) >= t and eos not in ids[:t]})
        for t in range(rollout.completion_ids.shape[1])
    ]
    assert counting.read == expected
    assert max(expected) < len(rows)


def test_the_seed_decides_and_nothing_global_moves(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    before = (torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate())
    first, again, other = (_sample(model, tokenizer, seed) for seed in (7, 7, 8))
    assert torch.equal(first.completion_ids, again.completion_ids)
    assert torch.equal(first.logprobs, again.logprobs)
    assert not torch.equal(first.completion_ids, other.completion_ids)
    assert torch.equal(before[0], torch.get_rng_state())
    assert np.array_equal(before[1], np.random.get_state()[1]) and before[2] == random.getstate()


def test_equal_prompts_draw_different_samples(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    rollout = generate(model, tokenizer, ["<sort>ab="] * 8, max_new_tokens=12, temperature=1.0, seed=0)
    assert len(set(rollout.texts)) > 4


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_the_first_token_has_the_models_distribution(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, temperature: float
) -> None:
    rows = 20_000
    rollout = generate(
        model, tokenizer, ["<max>39="] * rows, max_new_tokens=1, temperature=temperature, seed=3
    )
    with torch.no_grad():
        logits = model(**tokenizer("<max>39=", return_tensors="pt")).logits[0, -1]
    expected = torch.softmax(logits / temperature, dim=0) * rows
    counts = torch.bincount(rollout.completion_ids[:, 0], minlength=len(expected))
    likely = expected > 10
    chi2 = float(((counts - expected)[likely] ** 2 / expected[likely]).sum())
    degrees = int(likely.sum()) - 1
    assert chi2 < degrees + 5 * (2 * degrees) ** 0.5  # mean + 5 standard deviations


def test_no_token_of_probability_zero_is_drawn() -> None:
    logits = torch.tensor([[-torch.inf, 0.0, -torch.inf, 0.0, -torch.inf]]).repeat(4, 1)
    uniform = torch.tensor([0.0, 0.49999, 0.5, 1 - 2**-53], dtype=torch.float64)
    token, logprob = sampling._choose(logits, 1.0, uniform)
    assert token.tolist() == [1, 1, 3, 3]
    torch.testing.assert_close(logprob, torch.full((4,), float(np.log(0.5))))


def test_accuracy_is_the_mean_greedy_reward_per_skill(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Length:
        """Rewards the length of the text: a value of every row, whatever the model says."""

        name, difficulties, max_new_tokens = "length", range(1, 2), 4

        def generate(self, rng: np.random.Generator, difficulty: int | None = None) -> Task:
            raise NotImplementedError

        def verify(self, task: Task, completion: str) -> float:
            return len(completion) / 10 + len(task.prompt)

    monkeypatch.setitem(SKILLS, "length", Length())
    tasks = [Task("length", task.prompt, "") for task in held_out(["sort", "max"], 6, 0)]
    found = accuracy(model, tokenizer, tasks, max_new_tokens=4, batch_size=5)
    expected = []
    for task in tasks:
        text = generate(model, tokenizer, [task.prompt], max_new_tokens=4, temperature=0.0, seed=None).texts[
            0
        ]
        expected.append(len(text) / 10 + len(task.prompt))
    assert found == {"length": pytest.approx(np.mean(expected))}


def test_accuracy_names_skills_in_the_tasks_order(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    names = [skill.name for skill in SYMBOLIC][::-1]
    found = accuracy(model, tokenizer, held_out(names, 3, 0), max_new_tokens=16, batch_size=64)
    assert list(found) == names and all(0 <= value <= 1 for value in found.values())


@pytest.mark.parametrize(
    ("prompts", "tokens", "temperature", "seed", "message"),
    [
        ([], 4, 1.0, 0, "0 prompts"),
        (["<max>3="], 0, 1.0, 0, "max_new_tokens 0"),
        (["<max>3="], 4, -1.0, 0, "temperature -1.0"),
        (["<max>3="], 4, 1.0, None, "needs a seed"),
    ],
)
def test_impossible_requests_are_refused(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    prompts: list[str],
    tokens: int,
    temperature: float,
    seed: int | None,
    message: str,
) -> None:
    with pytest.raises(ValueError, match=message):
        generate(model, tokenizer, prompts, max_new_tokens=tokens, temperature=temperature, seed=seed)
