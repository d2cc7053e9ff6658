"""From a recipe to what learns: policy, memory, sampler of tasks and learner of an agent.

torch and TRL are imported only when something is built with them, so the server can import this.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from symphony_fl.build.components import agent_skills, install_sources
from symphony_fl.config.learning import (
    CellsOptions,
    EpisodicOptions,
    FreeOptions,
    GRPOOptions,
    LearnabilityOptions,
    SelfPlayOptions,
    SharedRewardOptions,
    TRLOptions,
)
from symphony_fl.config.options import Recipe
from symphony_fl.exchange.flat import DIGEST_BYTES, digest
from symphony_fl.learning.memory.memory import Memory
from symphony_fl.learning.rl.shared_reward import SharedReward
from symphony_fl.learning.skills import Task, get_skill
from symphony_fl.learning.skills.base import ProposingSkill, TeachableSkill
from symphony_fl.learning.tasks.curriculum import Curriculum
from symphony_fl.learning.tasks.replay import ReplaySampler
from symphony_fl.learning.tasks.task_sampler import Sampler, TaskSampler
from symphony_fl.registry import builder

if TYPE_CHECKING:
    from symphony_fl.learning.model.adapters import Policy
    from symphony_fl.learning.report import LearnReport
    from symphony_fl.learning.rl.grpo import Baseline
    from symphony_fl.learning.rl.grpo_settings import GRPOSettings


class Learner(Protocol):
    """What improves an adapter for a round."""

    def improve(self, round: int, steps: int) -> LearnReport: ...

    def state(self) -> dict[str, np.ndarray]: ...

    def load_state(self, state: dict[str, np.ndarray]) -> None: ...


def recipe_policy(recipe: Recipe) -> Policy:
    """Base model and adapter of this process; loads them at the first call."""
    import torch

    from symphony_fl.learning.model.adapters import get_policy

    # Agents run side by side: two threads under contention were 3 to 30 times slower than one.
    torch.set_num_threads(1)
    model, adapter = recipe.model, recipe.adapter
    return get_policy(
        model.name,
        model.quantization,
        model.dtype,
        model.device,
        adapter.kind,
        adapter.rank,
        adapter.alpha,
        adapter.targets[0] if adapter.targets == ["all-linear"] else tuple(adapter.targets),
    )


def recipe_start(recipe: Recipe, policy: Policy) -> tuple[np.ndarray, bytes]:
    """theta_0, the adapter that every agent of the run begins with, float32 [P], and what envelopes name as the base of
    their changes, 16 bytes.

    Where a model must be taught the form of a proposal, that is part of theta_0, once per machine (`common_start.py`).
    Training may round differently on another processor, so the base is then the base model's digest with theta_0's.
    """
    options = recipe.selfplay
    if not isinstance(options, SelfPlayOptions) or not options.bootstrap:
        return policy.initial(recipe.seed), policy.base.digest
    from symphony_fl.learning.selfplay.bootstrap import Bootstrap
    from symphony_fl.learning.selfplay.common_start import common_start

    install_sources(recipe)
    teachers = [skill for skill in map(get_skill, recipe.tasks.skills) if isinstance(skill, TeachableSkill)]
    free = isinstance(options, FreeOptions)
    batch, rate = options.bootstrap_batch, options.bootstrap_rate
    bootstrap = Bootstrap(teachers, options.bootstrap, batch, recipe.seed, free, rate)
    start = common_start(policy, recipe.seed, bootstrap, grpo_settings(recipe), start_name(recipe))
    return start, hashlib.sha256(policy.base.digest + digest(start)).digest()[:DIGEST_BYTES]


def start_name(recipe: Recipe) -> str:
    """What the folder of this recipe's theta_0 begins with; "" where nothing is taught. Needs no torch."""
    options, learner = recipe.selfplay, recipe.learner
    if not isinstance(options, SelfPlayOptions) or not options.bootstrap:
        return ""
    taught = [options.name, options.bootstrap, options.bootstrap_batch, options.bootstrap_rate]
    asked = [recipe.seed, recipe.tasks.skills]
    settings = [learner.beta1, learner.beta2, learner.weight_decay, learner.max_grad_norm]
    sampling = [learner.max_new_tokens, learner.temperature]
    model = [recipe.model.model_dump(), recipe.adapter.model_dump()]
    text = json.dumps([taught, asked, settings, sampling, model], sort_keys=True)
    return f"start-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def recipe_memory(recipe: Recipe, path: Path) -> Memory | None:
    """The agent's memory in that file, opened; None where the recipe has none."""
    options = recipe.memory
    if not isinstance(options, EpisodicOptions):
        return None
    return Memory(path, capacity=options.capacity, window=options.window)


def recipe_reward(recipe: Recipe, agent: int) -> SharedReward:
    """What an agent hears of everybody's rewards (section 5.2 (4)), fresh."""
    options = recipe.reward if isinstance(recipe.reward, SharedRewardOptions) else SharedRewardOptions()
    return SharedReward(
        agent, recipe.agents, recipe.tasks.skills, options.window, options.delay, options.trim
    )


def recipe_learner(
    recipe: Recipe,
    policy: Policy,
    agent: int,
    memory: Memory | None,
    shared: Mapping[str, float],
    received: Sequence[Task] = (),
) -> Learner:
    """The agent's learner over its own skills. Its seed derives from (run, agent); rounds add theirs.

    The memory is read here, as of the round's beginning, and `shared` holds the shared reward of each skill that has
    one: a learner is for one round. `received` are tasks of the neighbours, for self-play.
    """
    install_sources(recipe)  # an agent's messages may each come to a fresh process
    seed = int(np.random.SeedSequence([recipe.seed, agent]).generate_state(1)[0])
    settings = grpo_settings(recipe)
    if isinstance(recipe.selfplay, SelfPlayOptions):
        assert memory is not None  # check_recipe sees to it
        return _selfplay(recipe, policy, agent, memory, settings, seed, shared, received)
    sampler = _sampler(recipe, agent, memory, seed)
    if isinstance(recipe.learner, TRLOptions):
        from symphony_fl.learning.rl.trl_grpo import TRLGRPO  # takes many seconds and half a gigabyte

        return TRLGRPO(policy, sampler, settings, seed)
    if not isinstance(recipe.learner, GRPOOptions):
        build = builder("learners", recipe.learner.name)
        learner: Learner = build(options=recipe.learner, policy=policy, sampler=sampler, seed=seed)
        return learner
    from symphony_fl.learning.rl.grpo import GRPO

    return GRPO(policy, sampler, settings, seed, _baseline(recipe, shared))


def _baseline(recipe: Recipe, shared: Mapping[str, float]) -> Baseline | None:
    from symphony_fl.learning.rl.grpo import Baseline

    options = recipe.reward
    if not isinstance(options, SharedRewardOptions) or options.use == "proposer":
        return None
    return Baseline(shared, options.weight)


def _sampler(recipe: Recipe, agent: int, memory: Memory | None, seed: int) -> Sampler:
    """p(T | M, theta) of eq. 5 over generated tasks."""
    skills = agent_skills(recipe, agent)
    if memory is None:
        return TaskSampler(skills, seed)
    fresh: Sampler = TaskSampler(skills, seed)
    options, curriculum = recipe.memory, recipe.curriculum
    assert isinstance(options, EpisodicOptions)  # there is a memory
    if isinstance(curriculum, LearnabilityOptions):
        counts = memory.counts(options.discount)
        fresh = Curriculum(
            skills,
            counts,
            seed,
            floor=curriculum.floor,
            mastery=curriculum.mastery,
            by=curriculum.by,
            samples=recipe.learner.samples,
        )
    return ReplaySampler(fresh, memory, options.replay, seed) if options.replay else fresh


def _selfplay(
    recipe: Recipe,
    policy: Policy,
    agent: int,
    memory: Memory,
    settings: GRPOSettings,
    seed: int,
    shared: Mapping[str, float],
    received: Sequence[Task],
) -> Learner:
    from symphony_fl.learning.selfplay.selfplay import SelfPlay, SelfPlaySettings

    options, curriculum, reward = recipe.selfplay, recipe.curriculum, recipe.reward
    assert isinstance(options, SelfPlayOptions) and isinstance(curriculum, LearnabilityOptions)
    assert isinstance(recipe.memory, EpisodicOptions)  # check_recipe sees to it
    proposers_too = isinstance(reward, SharedRewardOptions) and reward.use != "baseline"
    play = SelfPlaySettings(
        group=options.group,
        weight=options.weight,
        discount=recipe.memory.discount,
        floor=curriculum.floor,
        mastery=curriculum.mastery,
        by=curriculum.by,
        most=options.most,
        examples=options.examples,
        shared_weight=reward.weight if isinstance(reward, SharedRewardOptions) and proposers_too else 0.0,
        share=options.share if isinstance(options, CellsOptions) else 0,
        free=isinstance(options, FreeOptions),
    )
    skills = [
        skill for skill in map(get_skill, agent_skills(recipe, agent)) if isinstance(skill, ProposingSkill)
    ]
    baseline = _baseline(recipe, shared)
    return SelfPlay(policy, skills, memory, settings, play, seed, shared, baseline, received)


def grpo_settings(recipe: Recipe) -> GRPOSettings:
    """What a step of eq. 7 is."""
    from symphony_fl.learning.rl.grpo_settings import GRPOSettings

    options = recipe.learner
    return GRPOSettings(
        prompts=options.prompts,
        samples=options.samples,
        learning_rate=options.learning_rate,
        max_new_tokens=options.max_new_tokens,
        betas=(options.beta1, options.beta2),
        weight_decay=options.weight_decay,
        clip_low=options.clip_low,
        clip_high=options.clip_high,
        kl=options.kl,
        normalization=options.normalization,
        scale_rewards=options.scale_rewards,
        max_grad_norm=options.max_grad_norm,
        temperature=options.temperature,
        inner_epochs=options.inner_epochs,
        ratio=options.ratio if isinstance(options, GRPOOptions) else "clipped",
        ratio_cap=options.ratio_cap if isinstance(options, GRPOOptions) else 2.0,
    )
