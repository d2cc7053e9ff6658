"""The GRPO learner against the plain form of its own gradient, on an untrained model."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
import torch
from combinations import combinations
from plain_logprobs import completion_logprobs

from symphony_fl.learning.model.adapters import Policy
from symphony_fl.learning.model.base_model import Base
from symphony_fl.learning.model.tiny import initial_model, tiny_tokenizer
from symphony_fl.learning.rl.grpo import GRPO
from symphony_fl.learning.rl.grpo_loss import group_advantages, grpo_loss, k3
from symphony_fl.learning.rl.grpo_settings import GRPOSettings
from symphony_fl.learning.rl.sampling import generate
from symphony_fl.learning.skills import SKILLS, Task
from symphony_fl.learning.tasks.task_sampler import TaskSampler


class _Vowel:
    """Rewarded: an answer that begins with a vowel. An untrained model meets it by chance."""

    name = "vowel"
    difficulties = range(1, 2)
    max_new_tokens = 6

    def generate(self, rng: np.random.Generator, difficulty: int | None = None) -> Task:
        length = int(rng.integers(1, 5))
        return Task(self.name, "<max>" + "".join(str(n) for n in rng.integers(10, size=length)) + "=", "a")

    def verify(self, task: Task, completion: str) -> float:
        return float(completion[:1] in set("aeiou"))


class _Never(_Vowel):
    name = "never"

    def verify(self, task: Task, completion: str) -> float:
        return 0.0


@pytest.fixture(autouse=True)
def _skills(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SKILLS, "vowel", _Vowel())
    monkeypatch.setitem(SKILLS, "never", _Never())


@pytest.fixture(scope="module")
def base() -> Base:
    return Base("untrained", initial_model(1).eval().requires_grad_(False), tiny_tokenizer(), b"0" * 16)


def _policy(base: Base, kind: str = "lora", dropout: float = 0.0) -> Policy:
    policy = Policy(base, kind=kind, rank=2, alpha=4.0, dropout=dropout)
    policy.set(policy.initial(0))
    return policy


def _learner(policy: Policy, *, skill: str = "vowel", seed: int = 3, **options: object) -> GRPO:
    settings: dict = {"prompts": 4, "samples": 8, "learning_rate": 1e-2, "max_new_tokens": 6, **options}
    return GRPO(policy, TaskSampler([skill], seed), GRPOSettings(**settings), seed)


def test_rewards_rise(base: Base) -> None:
    learner = _learner(_policy(base), prompts=8)
    reports = [learner.improve(round, 5) for round in range(6)]
    assert reports[0].reward < 0.5 < 0.75 < reports[-1].reward
    report = reports[0]
    assert report.steps == 5 and report.rewards == {"vowel": report.reward}
    assert report.mismatch < 1e-5 and report.kl == 0.0 and report.grad_norm > 0
    assert 5 * 64 <= report.tokens <= 5 * 64 * 6
    assert all(report.seconds[phase] > 0 for phase in ("generate", "score", "backward", "optimizer"))


@pytest.mark.parametrize(
    ("normalization", "rows_per_pass", "kl"),
    combinations(["dr_grpo", "token", "sequence"], [1, 5, 64], [0.0, 0.1]),
)
def test_the_gradient_is_that_of_the_whole_batch(
    base: Base, normalization: str, rows_per_pass: int, kl: float
) -> None:
    """Rows without advantage left out and the rest cut to pieces: the same gradient as one plain pass over all."""
    policy = _policy(base)
    drawn = policy.initial(1)
    policy.set(
        drawn + np.where(drawn == 0, np.float32(0.03), 0).astype(np.float32)
    )  # B off zero, so KL is too
    learner = _learner(
        policy, normalization=normalization, rows_per_pass=rows_per_pass, kl=kl, max_grad_norm=1e9,
        learning_rate=0.0, temperature=1.3,
    )  # fmt: skip
    learner.improve(2, 1)
    found = torch.cat([p.grad.flatten() for p in policy.parameters() if p.grad is not None])

    tasks = learner.sampler.sample(4, 2, 0)
    seed = int(np.random.SeedSequence([3, 0x47, 2, 0]).generate_state(2)[0])
    prompts = [task.prompt for task in tasks for _ in range(8)]
    rollout = generate(policy.model, base.tokenizer, prompts, max_new_tokens=6, temperature=1.3, seed=seed)
    rewards = torch.tensor([_Vowel().verify(tasks[0], text) for text in rollout.texts]).view(4, 8)
    parts = (rollout.prompt_ids, rollout.prompt_mask, rollout.completion_ids, rollout.completion_mask)
    with torch.no_grad(), policy.model.disable_adapter():
        reference = completion_logprobs(policy.model, *parts, temperature=1.3)
    policy.model.zero_grad()
    grpo_loss(
        completion_logprobs(policy.model, *parts, temperature=1.3),
        rollout.logprobs,
        group_advantages(rewards).flatten(),
        rollout.completion_mask,
        kl=kl,
        ref_logprobs=reference,
        normalization=normalization,
        max_tokens=6,
    ).backward()
    expected = torch.cat([p.grad.flatten() for p in policy.parameters() if p.grad is not None])
    assert expected.abs().max() > 1e-4
    torch.testing.assert_close(found, expected, atol=2e-6, rtol=1e-3)


@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_the_same_seed_learns_the_same_and_nothing_global_moves(base: Base, dropout: float) -> None:
    before = (torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate())
    adapters = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed + len(adapters))  # what the process did before must not matter
        state = torch.get_rng_state()
        policy = _policy(base, dropout=dropout)
        _learner(policy, seed=seed).improve(0, 2)
        adapters.append(policy.get())
        assert torch.equal(state, torch.get_rng_state())
    assert np.array_equal(adapters[0], adapters[1])
    assert not np.array_equal(adapters[0], adapters[2])
    assert np.array_equal(before[1], np.random.get_state()[1]) and before[2] == random.getstate()


def test_steps_of_a_round_differ_and_rounds_differ(base: Base) -> None:
    seen = []
    for round, steps in ((0, 1), (0, 2), (1, 1)):
        policy = _policy(base)
        _learner(policy).improve(round, steps)
        seen.append(policy.get())
    assert not np.array_equal(seen[0], seen[1]) and not np.array_equal(seen[0], seen[2])


def test_state_carries_the_optimizer_to_the_last_bit(base: Base) -> None:
    policy = _policy(base)
    learner = _learner(policy)
    fresh = learner.state()
    assert {key: float(np.abs(array).max()) for key, array in fresh.items()} == {
        "exp_avg": 0.0, "exp_avg_sq": 0.0, "step": 0.0,
    }  # fmt: skip
    learner.improve(0, 2)
    adapter, state = policy.get(), learner.state()
    assert all(array.dtype == np.float32 for array in state.values()) and state["step"] == 2
    assert state["exp_avg"].shape == (policy.layout.size,)
    learner.improve(1, 2)
    straight = policy.get()

    other = _policy(base)
    other.set(adapter)
    resumed = _learner(other)
    resumed.improve(9, 1)  # its own history must be replaced
    other.set(adapter)
    resumed.load_state(state)
    assert all(np.array_equal(resumed.state()[key], state[key]) for key in state)
    resumed.improve(1, 2)
    assert np.array_equal(other.get(), straight)
    resumed.load_state(fresh)
    assert resumed.state()["step"] == 0


@pytest.mark.parametrize("missing", ["exp_avg", "exp_avg_sq", "step"])
def test_a_state_that_does_not_fit_is_refused(base: Base, missing: str) -> None:
    learner = _learner(_policy(base))
    state = learner.state()
    with pytest.raises(ValueError, match=f"'{missing}' must be there"):
        learner.load_state({key: array for key, array in state.items() if key != missing})
    if missing != "step":
        with pytest.raises(ValueError, match=f"'{missing}' must be there with"):
            learner.load_state({**state, missing: state[missing][:-1]})


def test_groups_that_all_earn_the_same_change_nothing(base: Base) -> None:
    policy = _policy(base)
    before = policy.get()
    learner = _learner(policy, skill="never", weight_decay=0.1)
    report = learner.improve(0, 2)
    assert np.array_equal(policy.get(), before)
    assert (report.zero_advantage, report.reward, report.loss) == (1.0, 0.0, 0.0)
    assert learner.state()["step"] == 0


def test_each_inner_epoch_is_a_step(base: Base) -> None:
    once, twice = _policy(base), _policy(base)
    _learner(once).improve(0, 2)
    learner = _learner(twice, inner_epochs=2)
    learner.improve(0, 2)
    assert learner.state()["step"] == 4
    assert not np.array_equal(once.get(), twice.get())


def test_the_gradient_is_clipped(base: Base) -> None:
    policy = _policy(base)
    learner = _learner(policy, max_grad_norm=1e-3)
    assert learner.improve(0, 1).grad_norm > 1e-3
    norm = math.sqrt(sum(float(p.grad.square().sum()) for p in policy.parameters() if p.grad is not None))
    assert norm == pytest.approx(1e-3, rel=1e-3)


@pytest.mark.parametrize("kind", ["lora", "lora_fa"])
def test_kl_starts_at_zero_and_frozen_factors_stay_frozen(base: Base, kind: str) -> None:
    policy = _policy(base, kind)
    frozen = {
        name: parameter.detach().clone()
        for name, parameter in policy.model.named_parameters()
        if not parameter.requires_grad
    }
    learner = _learner(policy, kl=0.05)
    assert learner.improve(0, 1).kl == pytest.approx(0.0, abs=1e-9)  # B = 0: the policy is the base
    assert learner.improve(1, 3).kl > 1e-6
    for name, parameter in policy.model.named_parameters():
        assert parameter.requires_grad == (name not in frozen)
        if name in frozen:
            assert torch.equal(parameter, frozen[name]) and parameter.grad is None
    if kind == "lora_fa":
        assert any("lora_A" in name for name in frozen)


def test_kl_holds_the_policy_back(base: Base) -> None:
    moved = []
    for kl in (0.0, 5.0):
        policy = _policy(base)
        before = policy.get()
        _learner(policy, kl=kl).improve(0, 12)
        with torch.no_grad():
            rollout = generate(
                policy.model, base.tokenizer, ["<max>12="] * 64, max_new_tokens=6, temperature=1.0, seed=0
            )
            parts = (rollout.prompt_ids, rollout.prompt_mask, rollout.completion_ids, rollout.completion_mask)
            with policy.model.disable_adapter():
                reference = completion_logprobs(policy.model, *parts)
        moved.append(float((k3(rollout.logprobs, reference) * rollout.completion_mask).sum()))
        assert not np.array_equal(before, policy.get())
    assert moved[1] < 0.5 * moved[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"samples": 1}, "samples 1: must be at least 2"),
        ({"prompts": 0}, "prompts 0: must be at least 1"),
        ({"temperature": 0.0}, "temperature 0.0: must be above 0"),
        ({"normalization": "none"}, "normalization 'none': one of"),
        ({"scale_rewards": "batch"}, "scale_rewards 'batch': one of"),
    ],
)
def test_senseless_settings_are_refused(base: Base, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _learner(_policy(base), **options)
