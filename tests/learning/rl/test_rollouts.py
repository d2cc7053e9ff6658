"""Rollouts sampled elsewhere: the same tensors again, and proof of which weights and which chance sampled them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from symphony_fl.learning.model.adapters import Policy, get_policy
from symphony_fl.learning.report import Meter
from symphony_fl.learning.rl.grpo_settings import GRPOSettings
from symphony_fl.learning.rl.policy_gradient import PolicyMismatch
from symphony_fl.learning.rl.rollout_learner import RolloutLearner, Sampled
from symphony_fl.learning.rl.rollouts import check_sampled, flat_completions, rebuilt
from symphony_fl.learning.rl.sampling import Rollout
from symphony_fl.learning.tasks.task_sampler import TaskSampler

SETTINGS = GRPOSettings(prompts=6, samples=4, learning_rate=3e-3, max_new_tokens=16)
TASKS = TaskSampler(["reverse", "add", "max"], seed=1).sample(6, 1, 0)
PROMPTS = [task.prompt for task in TASKS for _ in range(SETTINGS.samples)]
SEED = 5


@pytest.fixture
def policy() -> Policy:
    torch.set_num_threads(1)
    found = get_policy("tiny", "none", "float32", "cpu", "lora", 8, 16.0, "all-linear")
    found.set(found.initial(0))
    return found


def moved(policy: Policy, size: float) -> np.ndarray:
    """Weights near those in the policy now."""
    noise = np.random.default_rng(0).standard_normal(policy.layout.size)
    return policy.get() + (size * noise).astype(np.float32)


def checked(policy: Policy, rollout: Rollout, seed: int = SEED) -> tuple[float, float]:
    return check_sampled(policy, rollout, temperature=1.0, max_new_tokens=16, seed=seed, rows_per_pass=10)


def test_what_travelled_is_what_was_sampled(policy: Policy) -> None:
    ours = RolloutLearner(policy, SETTINGS).sample(TASKS, SEED).rollout
    theirs = rebuilt(policy.base, PROMPTS, *flat_completions(ours))
    for name in ("prompt_ids", "prompt_mask", "completion_ids", "completion_mask", "logprobs"):
        assert torch.equal(getattr(ours, name), getattr(theirs, name)), name
    assert ours.texts == theirs.texts


def test_the_weights_and_the_chance_that_sampled_are_recognised(policy: Policy) -> None:
    policy.set(moved(policy, 0.05))
    rollout = RolloutLearner(policy, SETTINGS).sample(TASKS, SEED).rollout
    apart, missed = checked(policy, rollout)
    assert apart < 1e-4 and missed < 1e-4
    assert checked(policy, rollout, SEED + 1)[1] > 0.1, "another seed drew these"
    policy.set(moved(policy, 0.02))
    assert checked(policy, rollout)[0] > 0.01, "other weights recorded these"


def test_tokens_chosen_instead_of_sampled_are_found(policy: Policy) -> None:
    """Their log-probabilities are true: only chance tells."""
    rollout = RolloutLearner(policy, SETTINGS).sample(TASKS, SEED).rollout
    other = RolloutLearner(policy, SETTINGS).sample(TASKS, SEED + 1).rollout
    apart, missed = checked(policy, other)
    assert apart < 1e-4 and missed > 0.01
    rollout.logprobs[0, 0] = float("nan")
    assert checked(policy, rollout)[0] == float("inf")


def test_older_weights_must_be_known_ones(policy: Policy) -> None:
    learner = RolloutLearner(policy, SETTINGS)
    sampled = learner.sample(TASKS, SEED)
    policy.set(moved(policy, 0.01))
    with pytest.raises(PolicyMismatch):
        learner.learn([sampled], [], 0, Meter())
    report = learner.learn([sampled], [sampled.policy], 0, Meter())
    assert report.mismatch > 1e-4, "the ratio sees what sampled"


def test_parts_weigh_by_their_completions(policy: Policy) -> None:
    """Two parts are one batch: the same gradient as a single one, however the tasks are dealt out."""
    start, found = policy.get(), []
    for cuts in ((0, 6), (0, 2, 6)):
        policy.set(start)
        learner = RolloutLearner(policy, SETTINGS)
        whole = learner.sample(TASKS, SEED).rollout
        lengths, ids, logprobs = flat_completions(whole)
        ends = np.concatenate([[0], np.cumsum(lengths)])
        parts = []
        for first, last in itertools.pairwise(cuts):
            rows = slice(first * 4, last * 4)
            tokens = slice(int(ends[rows.start]), int(ends[rows.stop]))
            rollout = rebuilt(policy.base, PROMPTS[rows], lengths[rows], ids[tokens], logprobs[tokens])
            parts.append(Sampled(TASKS[first:last], rollout, learner.gradient.digest()))
        report = learner.learn(parts, [], 0, Meter())
        found.append((report.loss, report.grad_norm, report.reward))
    np.testing.assert_allclose(found[0], found[1], rtol=1e-4, atol=1e-6)


def test_nothing_came_and_nothing_moves(policy: Policy) -> None:
    start = policy.get()
    RolloutLearner(policy, SETTINGS).learn([], [], 0, Meter())
    assert np.array_equal(policy.get(), start)
