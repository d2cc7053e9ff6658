"""Short name -> component, one visible dict per kind, and from a recipe to what it names.

Recipes stop here: the components below take explicit arguments. Nothing heavy is imported before it is built, so
the server checks a recipe without loading torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Protocol

import numpy as np

from symphony_fl.exchange.attacks import ATTACKS, attack
from symphony_fl.exchange.coding import CODECS, Codec, build_codec
from symphony_fl.exchange.density import (
    Adaptive,
    Constant,
    Density,
    DensityError,
    ExponentialDecay,
    LinearDecay,
    density_for_budget,
)
from symphony_fl.exchange.flat import Layout
from symphony_fl.exchange.merge import MergeError, Rule
from symphony_fl.exchange.rules import RULES, build_rule
from symphony_fl.exchange.select import SELECTIONS, Selection, SelectionError, build_selection
from symphony_fl.exchange.topology import TOPOLOGIES, Topology, TopologyError, build_topology
from symphony_fl.learning.model_check import ModelError, check_model
from symphony_fl.learning.skills import SKILLS, SkillError, Task
from symphony_fl.learning.tasks import TaskSampler, held_out
from symphony_fl.recipe import Recipe, RecipeError, did_you_mean

if TYPE_CHECKING:
    from symphony_fl.learning.model import Policy
    from symphony_fl.learning.report import LearnReport


class Learner(Protocol):
    """What improves an adapter for a round."""

    def improve(self, round: int, steps: int) -> LearnReport: ...

    def state(self) -> dict[str, np.ndarray]: ...

    def load_state(self, state: dict[str, np.ndarray]) -> None: ...


_ANY_LAYOUT = Layout(names=("any",), shapes=((1 << 20,),))  # to check what does not depend on the model


def check_recipe(recipe: Recipe) -> Recipe:
    """The recipe itself, once everything it names exists and fits together. Loads no model.

    Raises
    ------
    RecipeError
        Names the field, its value and what is allowed.
    """
    _known("exchange.rule", recipe.exchange.rule, RULES)
    _known("exchange.selection", recipe.exchange.selection, SELECTIONS)
    _known("exchange.coding", recipe.exchange.coding, CODECS)
    _known("topology.name", recipe.topology.name, TOPOLOGIES)
    for skill in recipe.tasks.skills:
        _known("tasks.skills", skill, SKILLS)
    if not recipe.tasks.skills or len(set(recipe.tasks.skills)) != len(recipe.tasks.skills):
        raise RecipeError(f"tasks.skills = {recipe.tasks.skills}: must be at least one skill, none twice")
    _known("adversary.attack", recipe.adversary.attack, ATTACKS)
    for agent in recipe.adversary.agents:
        if not 0 <= agent < recipe.agents:
            raise RecipeError(f"adversary.agents = {agent}: must be 0 to {recipe.agents - 1}")
    if recipe.adversary.agents and recipe.strategy != "gossip":
        raise RecipeError(f"adversary.agents: only gossip can be attacked, not strategy {recipe.strategy!r}")
    longest = max(SKILLS[skill].max_new_tokens for skill in recipe.tasks.skills)
    if recipe.learner.max_new_tokens < longest:
        raise RecipeError(
            f"learner.max_new_tokens = {recipe.learner.max_new_tokens}: must be at least {longest}, "
            "or right answers to these skills would not fit"
        )
    try:
        recipe_topology(recipe)
        recipe_rule(recipe, size=1, agent=0)
        recipe_selection(recipe, _ANY_LAYOUT, recipe_density(recipe, _ANY_LAYOUT.size))
        check_model(recipe.model.name, recipe.model.quantization)
        held_out_tasks(recipe)
    except (TopologyError, MergeError, DensityError, SelectionError, ModelError, SkillError) as error:
        raise RecipeError(str(error)) from None
    return recipe


def recipe_topology(recipe: Recipe) -> Topology:
    """The graph of the run."""
    options = recipe.topology
    return build_topology(
        options.name,
        recipe.agents,
        seed=recipe.seed,
        degree=options.degree,
        probability=options.probability,
        edges=options.edges or None,
    )


def agent_skills(recipe: Recipe, agent: int) -> list[str]:
    """The skills agent number `agent` trains on.

    `disjoint` deals the skills out like cards; with more agents than skills several agents hold the same card.
    """
    skills = recipe.tasks.skills
    if recipe.tasks.split == "all":
        return list(skills)
    return skills[agent :: recipe.agents] or [skills[agent % len(skills)]]


def held_out_tasks(recipe: Recipe) -> list[Task]:
    """The tasks every agent is evaluated on; the same for all recipes that share skills, number and seed."""
    return held_out(recipe.tasks.skills, recipe.tasks.held_out, recipe.tasks.held_out_seed)


def recipe_policy(recipe: Recipe) -> Policy:
    """Base model and adapter of this process; loads them at the first call."""
    import torch

    from symphony_fl.learning.model import get_policy

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


def recipe_learner(recipe: Recipe, policy: Policy, agent: int) -> Learner:
    """The agent's learner over its own skills. Its seed derives from (run, agent); rounds add theirs."""
    from symphony_fl.learning.grpo_settings import GRPOSettings

    options = recipe.learner
    seed = int(np.random.SeedSequence([recipe.seed, agent]).generate_state(1)[0])
    settings = GRPOSettings(
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
    )
    sampler = TaskSampler(agent_skills(recipe, agent), seed)
    return _learner_class(options.name)(policy, sampler, settings, seed)


def _learner_class(name: str) -> Callable[..., Learner]:
    """Imported only when chosen: TRL takes many seconds and half a gigabyte."""
    if name == "trl":
        from symphony_fl.learning.trl_grpo import TRLGRPO

        return TRLGRPO
    from symphony_fl.learning.grpo import GRPO

    return GRPO


def recipe_density(recipe: Recipe, size: int) -> Density:
    """How many of `size` entries travel, round by round."""
    options = recipe.exchange
    match options.schedule:
        case "linear":
            return LinearDecay(options.density, options.density_floor, recipe.rounds)
        case "exponential":
            return ExponentialDecay(options.density, options.density_decay, options.density_floor)
        case "budget":
            bits = 8 * recipe_codec(recipe).nbytes(size) / size
            return density_for_budget(options.budget, size, bits, SELECTIONS[options.selection].shared)
        case "adaptive":
            floor, gain = options.density_floor, options.density_decay
            return Adaptive(options.density, floor, 1.0, options.drift_target, gain)
        case _:
            return Constant(options.density)


def recipe_selection(recipe: Recipe, layout: Layout, density: Density) -> Selection:
    """S(.) of eq. 3."""
    options = recipe.exchange
    return build_selection(
        options.selection,
        layout,
        density,
        seed=recipe.seed,
        per_layer=options.per_layer,
        factor=options.threshold,
    )


def recipe_rule(recipe: Recipe, size: int, agent: int) -> Rule:
    """A(.) and alpha of eq. 4 for an adapter of `size` entries, with a fresh state."""
    options = recipe.exchange
    return build_rule(
        options.rule,
        size,
        number=agent,
        agents=recipe.agents,
        alpha=options.alpha,
        scaling=options.scaling,
        momentum=options.momentum,
        gamma=options.gamma,
        combine=options.combine,
        eta=options.eta,
        keep=options.keep,
        window=options.window,
        hops=options.hops,
        step=options.step,
        pull=options.pull,
        robust=options.robust,
        clip=options.clip,
        trim=options.trim,
    )


def recipe_codec(recipe: Recipe) -> Codec:
    """How values travel."""
    return build_codec(recipe.exchange.coding, recipe.exchange.block)


def recipe_attack(recipe: Recipe, agent: int) -> Callable[[np.ndarray, int], np.ndarray] | None:
    """(movement [P], round) -> what a hostile agent sends in its place; None for an honest one."""
    options = recipe.adversary
    if agent not in options.agents or options.attack == "none":
        return None
    return lambda movement, round: attack(
        options.attack, movement, options.strength, recipe.seed, agent, round
    )


def _known(field: str, value: str, names: Iterable[str]) -> None:
    if value not in names:
        raise RecipeError(f"{field} = {value!r}: unknown{did_you_mean(value, names)}")
