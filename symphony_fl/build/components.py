"""Short name -> component, one visible dict per kind, and from a recipe to what it names.

Recipes stop here: the components below take explicit arguments. Nothing heavy is imported before it is built, so
the server checks a recipe without loading torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache

import numpy as np

from symphony_fl.build.asynchrony import GOSSIPS, check_asynchronous
from symphony_fl.build.centralized import check_centralized, is_centralized
from symphony_fl.build.generalization import check_generalization
from symphony_fl.config.recipe import LocalRecipeError, Recipe, RecipeError, did_you_mean
from symphony_fl.exchange.attacks import ATTACKS, attack
from symphony_fl.exchange.codecs.codec import CODECS, Codec, build_codec
from symphony_fl.exchange.flat import Layout
from symphony_fl.exchange.rules import RULES, build_rule
from symphony_fl.exchange.rules.rule import MergeError, Rule
from symphony_fl.exchange.selection.density import (
    Adaptive,
    Constant,
    Density,
    DensityError,
    ExponentialDecay,
    LinearDecay,
    density_for_budget,
)
from symphony_fl.exchange.selection.selection import SELECTIONS, Selection, SelectionError, build_selection
from symphony_fl.exchange.topology import TOPOLOGIES, Topology, TopologyError, build_topology
from symphony_fl.learning.model.model_check import ModelError, check_model
from symphony_fl.learning.skills import SKILLS, SkillError, Task, install_rows
from symphony_fl.learning.skills.base import ProposingSkill, TeachableSkill
from symphony_fl.learning.tasks.task_sampler import held_out
from symphony_fl.learning.tasks.task_sharing import can_be_shared

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
    try:
        install_sources(recipe)
    except SkillError as error:
        raise LocalRecipeError(f"tasks.sources: {error}", "tasks.sources: cannot be used here") from None
    _known("adversary.attack", recipe.adversary.attack, ATTACKS)
    for agent in recipe.adversary.agents:
        if not 0 <= agent < recipe.agents:
            raise RecipeError(f"adversary.agents = {agent}: must be 0 to {recipe.agents - 1}")
    if recipe.adversary.agents and recipe.strategy not in GOSSIPS:
        raise RecipeError(f"adversary.agents: only gossip can be attacked, not strategy {recipe.strategy!r}")
    if recipe.exchange.encryption != "none" and recipe.strategy == "fedavg":
        raise RecipeError(
            "exchange.encryption: must be 'none' for strategy 'fedavg', whose server averages adapters"
        )
    check_centralized(recipe)
    _check_transport(recipe)
    _check_selfplay(recipe)
    longest = max(SKILLS[skill].max_new_tokens for skill in recipe.tasks.skills)
    if recipe.learner.max_new_tokens < longest:
        raise RecipeError(
            f"learner.max_new_tokens = {recipe.learner.max_new_tokens}: must be at least {longest}, "
            "or right answers to these skills would not fit"
        )
    try:
        if not is_centralized(recipe):  # has a tree of its own
            check_asynchronous(recipe, recipe_topology(recipe))
        recipe_rule(recipe, size=1, agent=0)
        recipe_selection(recipe, _ANY_LAYOUT, recipe_density(recipe, _ANY_LAYOUT.size))
        check_model(recipe.model.name, recipe.model.quantization)
        held_out_tasks(recipe)
        check_generalization(recipe)
    except (TopologyError, MergeError, DensityError, SelectionError) as error:
        raise RecipeError(str(error)) from None
    except ModelError as error:
        raise LocalRecipeError(str(error), "model: cannot be used here") from None
    except SkillError as error:
        raise LocalRecipeError(str(error), "tasks: cannot be asked here") from None
    return recipe


def _check_transport(recipe: Recipe) -> None:
    """Agents that hand mail to each other directly have edges, a process each, and no clock but the wall's."""
    if recipe.exchange.transport == "superlink":
        return
    named = f"exchange.transport = {recipe.exchange.transport!r}"
    if recipe.strategy not in GOSSIPS:
        raise RecipeError(
            f"{named}: must be 'superlink' for strategy {recipe.strategy!r}, which has no edges"
        )
    if recipe.agents_per_node > 1:
        raise RecipeError(
            f"agents_per_node = {recipe.agents_per_node}: must be 1 for {named}, which takes a process per agent"
        )
    if recipe.strategy == "async_gossip" and recipe.clock.kind == "virtual":
        raise RecipeError(
            f"clock.kind = 'virtual': must be 'wall' for {named}, whose mail comes when it comes"
        )


def _check_selfplay(recipe: Recipe) -> None:
    """What needs a memory has one, and self-play has skills that can be proposed."""
    needs = {
        "memory.replay": recipe.memory.replay > 0,
        "curriculum.name": recipe.curriculum.name != "uniform",
        "selfplay.enabled": recipe.selfplay.enabled,
    }
    for name, wanted in needs.items():
        if wanted and not recipe.memory.capacity:
            raise RecipeError(f"memory.capacity = 0: must be above 0 for {name}")
    if not recipe.selfplay.enabled:
        if recipe.selfplay.share:
            raise RecipeError(
                f"selfplay.share = {recipe.selfplay.share}: must be 0 where selfplay.enabled is false"
            )
        return
    for name in recipe.tasks.skills:
        if not isinstance(SKILLS[name], ProposingSkill):
            raise RecipeError(f"tasks.skills = {name!r}: nobody can propose its tasks (selfplay.enabled)")
        if recipe.selfplay.bootstrap and not isinstance(SKILLS[name], TeachableSkill):
            raise RecipeError(
                f"selfplay.bootstrap = {recipe.selfplay.bootstrap}: must be 0 for skill {name!r}"
            )
    if recipe.learner.prompts % recipe.selfplay.group:
        raise RecipeError(
            f"learner.prompts = {recipe.learner.prompts}: must be a multiple of selfplay.group, {recipe.selfplay.group}"
        )
    if recipe.learner.name != "grpo":
        raise RecipeError(f"learner.name = {recipe.learner.name!r}: must be 'grpo' for selfplay.enabled")
    if recipe.selfplay.proposer == "free":
        if recipe.selfplay.share:
            raise RecipeError(
                f"selfplay.share = {recipe.selfplay.share}: must be 0 for selfplay.proposer = 'free'"
            )
        if not recipe.selfplay.bootstrap:
            raise RecipeError("selfplay.bootstrap = 0: must be above 0 for selfplay.proposer = 'free'")
    _check_sharing(recipe)


def _check_sharing(recipe: Recipe) -> None:
    """Tasks that are shared have somewhere to go, and somebody takes them."""
    share = recipe.selfplay.share
    if not share:
        return
    if recipe.strategy not in GOSSIPS:
        raise RecipeError(f"selfplay.share = {share}: must be 0 for strategy {recipe.strategy!r}")
    if not any(map(can_be_shared, recipe.tasks.skills)):
        said = "answers to their tasks come with the proposals, so nobody would take them"
        raise RecipeError(f"tasks.skills = {recipe.tasks.skills}: {said} (selfplay.share = {share})")


def install_sources(recipe: Recipe) -> None:
    """See to it that this process asks the recipe's skills with the recipe's rows, before any task is drawn.

    Raises
    ------
    SkillError
        As of `install_rows`.
    """
    install_rows(recipe.tasks.sources, recipe.tasks.skills)


def recipe_topology(recipe: Recipe) -> Topology:
    """The graph of the run."""
    options = recipe.topology
    edges = tuple(map(tuple, options.edges)) or None
    return _topology(options.name, recipe.agents, recipe.seed, options.degree, options.probability, edges)


@lru_cache(maxsize=8)
def _topology(
    name: str,
    agents: int,
    seed: int,
    degree: int,
    probability: float,
    edges: tuple[tuple[int, ...], ...] | None,
) -> Topology:
    """One graph per process: each of N agents would build the whole of it again with every message."""
    return build_topology(name, agents, seed=seed, degree=degree, probability=probability, edges=edges)


def agent_skills(recipe: Recipe, agent: int) -> list[str]:
    """The skills agent number `agent` trains on.

    `disjoint` deals the skills out like cards; with more agents than skills several agents hold the same card.
    """
    skills = recipe.tasks.skills
    if recipe.tasks.split == "all":
        return list(skills)
    return skills[agent :: recipe.agents] or [skills[agent % len(skills)]]


def held_out_tasks(recipe: Recipe) -> list[Task]:
    """The tasks every agent is evaluated on; the same for all recipes that share skills, sources, number and seed."""
    install_sources(recipe)
    return held_out(recipe.tasks.skills, recipe.tasks.held_out, recipe.tasks.held_out_seed)


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
        agreement=options.agreement,
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
