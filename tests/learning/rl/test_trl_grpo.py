"""TRL's trainer as a learner: our loss and gradient are its own; it leaves policy and chance as they were."""

from __future__ import annotations

import random

import numpy as np
import plain_logprobs
import pytest
import torch
from peft.tuners.tuners_utils import BaseTunerLayer

from symphony_fl.learning.model.adapters import Policy
from symphony_fl.learning.model.base_model import Base, load_base
from symphony_fl.learning.rl import sampling, shared_prompts
from symphony_fl.learning.rl.grpo import GRPO
from symphony_fl.learning.rl.grpo_loss import NORMALIZATIONS, grpo_loss
from symphony_fl.learning.rl.grpo_settings import GRPOSettings
from symphony_fl.learning.rl.trl_grpo import TRLGRPO
from symphony_fl.learning.tasks.task_sampler import TaskSampler

SKILLS = ("reverse", "max")

torch.set_num_threads(1)  # two threads that wait for each other on a busy machine are many times slower


@pytest.fixture(scope="module")
def base() -> Base:
    return load_base("tiny")


def _policy(base: Base, kind: str = "lora", shift: float = 0.0) -> Policy:
    policy = Policy(base, kind=kind, rank=4, alpha=8.0)
    noise = np.random.default_rng(5).normal(size=policy.layout.size).astype(np.float32)
    policy.set(policy.initial(0) + np.float32(shift) * noise)
    return policy


def _learner(policy: Policy, seed: int = 3, **settings: object) -> TRLGRPO:
    arguments: dict[str, object] = dict(prompts=4, samples=4, learning_rate=1e-3, max_new_tokens=10)
    return TRLGRPO(policy, TaskSampler(SKILLS, 0), GRPOSettings(**(arguments | settings)), seed)  # type: ignore[arg-type]


def _gradient(policy: Policy) -> np.ndarray:
    found = np.concatenate([p.grad.numpy().ravel() for p in policy.parameters()])  # type: ignore[union-attr]
    policy.model.zero_grad()
    return found


@pytest.mark.parametrize("kl", [0.0, 0.1])
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_our_loss_and_gradient_are_trls(base: Base, normalization: str, kl: float) -> None:
    """On one batch, off policy so that the clipping bites, with completions of different lengths."""
    policy = _policy(base, shift=0.05)
    learner = _learner(policy, normalization=normalization, kl=kl)
    tasks = TaskSampler(SKILLS, 1).sample(4, 0, 0)
    prompts = [task.prompt for task in tasks for _ in range(4)]
    rollout = sampling.generate(
        policy.model, base.tokenizer, prompts, max_new_tokens=10, temperature=1.0, seed=0
    )
    rows = (rollout.prompt_ids, rollout.prompt_mask, rollout.completion_ids, rollout.completion_mask)
    generator = torch.Generator().manual_seed(1)
    old = rollout.logprobs + 0.3 * torch.randn(rollout.logprobs.shape, generator=generator)
    advantages = torch.randn(len(prompts), generator=generator)
    with torch.no_grad():
        reference = plain_logprobs.completion_logprobs(base.model, *rows)

    trainer = learner.trainer
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = 1
    names = ("prompt_ids", "prompt_mask", "completion_ids", "completion_mask")
    batch = dict(zip(names, rows, strict=True)) | {"old_per_token_logps": old, "advantages": advantages}
    batch |= {"ref_per_token_logps": reference, "num_items_in_batch": rows[3].sum()}
    theirs = trainer._compute_loss(trainer.model, batch)
    theirs.backward()
    their_gradient = _gradient(policy)

    for method in (plain_logprobs.completion_logprobs, shared_prompts.completion_logprobs):
        ours = grpo_loss(
            method(policy.model, *rows), old, advantages, rows[3],
            kl=kl, ref_logprobs=reference, normalization=normalization, max_tokens=10,
        )  # fmt: skip
        ours.backward()
        assert ours.item() == pytest.approx(theirs.item(), rel=1e-5)
        distance = np.linalg.norm(_gradient(policy) - their_gradient) / np.linalg.norm(their_gradient)
        assert distance < 1e-5
    ratio = ((rollout.logprobs - old).exp() * rows[3])[rows[3].bool()]
    assert float(((ratio < 0.8) | (ratio > 1.28)).float().mean()) > 0.1


@pytest.mark.slow
def test_deterministic_and_resumable(base: Base) -> None:
    """Two rounds in one learner equal one round, its state in a new learner, and the second round."""
    whole = _policy(base)
    learner = _learner(whole)
    reports = [learner.improve(0, 1), learner.improve(1, 1)]
    for settings in ({}, {"seed": 4}):
        parted = _policy(base)
        first = _learner(parted, **settings)
        first.improve(0, 1)
        adapter, state = parted.get(), first.state()
        other = _policy(base)
        other.set(adapter)
        second = _learner(other, **settings)
        second.load_state(state)
        report = second.improve(1, 1)
        same = settings == {}
        assert np.array_equal(other.get(), whole.get()) is same
        assert (report.rewards == reports[1].rewards and report.loss == reports[1].loss) is same
    assert learner.state()["step"] == 2.0


@pytest.mark.slow
def test_rewards_rise(base: Base) -> None:
    """In the fast tier this follows from the loss and its gradient, which are ours (`test_grpo.py` learns)."""
    learner = _learner(_policy(base), prompts=16, samples=8, learning_rate=3e-3)
    reports = [learner.improve(round, 5) for round in range(5)]
    assert np.mean([r.reward for r in reports[-2:]]) > reports[0].reward + 0.05


def test_moves_and_reports(base: Base) -> None:
    policy = _policy(base)
    start = policy.get()
    learner = _learner(policy, prompts=8, samples=4, learning_rate=3e-3)
    last = learner.improve(0, 2)
    assert set(last.rewards) == set(SKILLS) and last.steps == 2 and last.grad_norm > 0
    assert 8 * 4 * 2 < last.tokens <= 8 * 4 * 2 * 10 and 0 <= last.zero_advantage < 1
    assert last.reward == pytest.approx(np.mean(list(last.rewards.values())))
    assert all(seconds > 0 for seconds in last.seconds.values())
    assert not np.array_equal(policy.get(), start)
    assert learner.improve(9, 0).steps == 0


def test_policy_model_and_chance_are_left_as_they_were(base: Base) -> None:
    policy = _policy(base, shift=0.05)
    tokens = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        before = policy.model(tokens).logits
    adapter, config = policy.get(), policy.model.config.to_dict()
    torch.manual_seed(1)
    states = (random.getstate(), np.random.get_state()[1].copy(), torch.get_rng_state())
    learner = _learner(policy, kl=0.1)
    assert np.array_equal(policy.get(), adapter)
    learner.improve(0, 1)
    assert random.getstate() == states[0]
    assert np.array_equal(np.random.get_state()[1], states[1])
    assert torch.equal(torch.get_rng_state(), states[2])
    policy.set(adapter)
    with torch.no_grad():
        assert torch.equal(policy.model(tokens).logits, before)
    assert policy.model.config.to_dict() == config
    assert list(policy.model.peft_config) == ["default"]
    assert "forward" not in vars(policy.model.get_base_model())
    layer = next(m for m in policy.model.modules() if isinstance(m, BaseTunerLayer))
    assert list(layer.lora_A) == ["default"]


def test_kl_is_measured_to_the_base_model(base: Base) -> None:
    assert _learner(_policy(base), kl=0.1).improve(0, 1).kl == pytest.approx(0.0, abs=1e-6)
    assert _learner(_policy(base, shift=0.05), kl=0.1).improve(0, 1).kl > 1e-3


@pytest.mark.parametrize("kind", ["lora_fa", "lora_sb"])
def test_frozen_factor_stays(base: Base, kind: str) -> None:
    policy = _policy(base, kind=kind)
    frozen = {n: p.detach().clone() for n, p in policy.model.named_parameters() if ".lora_A." in n}
    learner = _learner(policy, kl=0.1)
    start = policy.get()
    learner.improve(0, 2)
    assert not np.array_equal(policy.get(), start)
    for name, parameter in policy.model.named_parameters():
        if name in frozen:
            assert torch.equal(parameter, frozen[name]) and not parameter.requires_grad


@pytest.mark.parametrize(
    "normalization",
    [NORMALIZATIONS[0], *(pytest.param(name, marks=pytest.mark.slow) for name in NORMALIZATIONS[1:])],
)
def test_passes_of_fewer_rows_give_the_same_gradient(base: Base, normalization: str) -> None:
    moments = []
    for rows in (256, 4):
        learner = _learner(
            _policy(base), prompts=4, samples=4, normalization=normalization, rows_per_pass=rows
        )
        learner.improve(0, 1)
        moments.append(learner.state()["exp_avg"])
    assert np.linalg.norm(moments[0] - moments[1]) < 1e-4 * np.linalg.norm(moments[0])


def test_inner_epochs_reuse_the_samples(base: Base) -> None:
    learner = _learner(_policy(base), inner_epochs=2)
    report = learner.improve(0, 3)
    assert learner.state()["step"] == 6.0
    assert report.tokens <= 3 * 16 * 10


def test_state_is_that_of_our_learner(base: Base) -> None:
    policy = _policy(base)
    learner = _learner(policy)
    learner.improve(0, 2)
    settings = GRPOSettings(prompts=4, samples=4, learning_rate=1e-3, max_new_tokens=10)
    ours = GRPO(policy, TaskSampler(SKILLS, 0), settings, 3)
    ours.load_state(learner.state())
    for key, array in ours.state().items():
        assert np.array_equal(array, learner.state()[key])
    with pytest.raises(ValueError, match="exp_avg"):
        learner.load_state({"step": np.float32(0)})  # type: ignore[dict-item]


def test_4_bit_adapter_stays_float32() -> None:
    """TRL casts the adapter of a quantized model to bfloat16."""
    pytest.importorskip("bitsandbytes")
    policy = _policy(load_base("tiny", quantization="nf4"))
    start = policy.get()
    learner = _learner(policy)
    learner.improve(0, 2)
    assert {p.dtype for p in policy.parameters()} == {torch.float32}
    assert not np.array_equal(policy.get(), start)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"prompts": 0}, "prompts 0"),
        ({"samples": 1}, "samples 1"),
        ({"normalization": "mean"}, "normalization 'mean'"),
        ({"scale_rewards": "batch"}, "scale_rewards 'batch'"),
        ({"inner_epochs": 0}, "inner_epochs 0"),
    ],
)
def test_refused_settings(base: Base, setting: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _learner(_policy(base), **setting)
