"""From a recipe's components to what they name.

Recipes stop here: the components below take explicit arguments. Nothing heavy is imported before it is built, so
the server checks a recipe without loading torch. `checks.py` refuses what does not fit together.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial

import numpy as np

from symphony_fl.config.exchange import (
    AdaptiveOptions,
    AverageOptions,
    BudgetOptions,
    ChocoOptions,
    ClipOptions,
    DeltaOptions,
    DenseOptions,
    EpidemicOptions,
    ExponentialDecayOptions,
    LinearOptions,
    MedianOptions,
    NoLoCoOptions,
    ScaledOptions,
    SparseOptions,
    ThresholdOptions,
    TopKOptions,
    TrimmedOptions,
)
from symphony_fl.config.network import (
    ColludeOptions,
    EdgesOptions,
    FreshKRegularOptions,
    KRegularOptions,
    NoAttackOptions,
    RandomAttackOptions,
    ScaleOptions,
    SmallWorldOptions,
)
from symphony_fl.config.options import Recipe
from symphony_fl.exchange.attacks import attack
from symphony_fl.exchange.codecs.codec import CODECS, Codec, build_codec
from symphony_fl.exchange.flat import Layout
from symphony_fl.exchange.rules.average import Average
from symphony_fl.exchange.rules.choco import Choco
from symphony_fl.exchange.rules.combiners import Combiner, MeanOfAgents, MeanOfSenders
from symphony_fl.exchange.rules.delta import Delta
from symphony_fl.exchange.rules.epidemic import Epidemic
from symphony_fl.exchange.rules.noloco import NoLoCo
from symphony_fl.exchange.rules.robust import Clipped, Middle
from symphony_fl.exchange.rules.robust_combiners import Clip, Robust
from symphony_fl.exchange.rules.rule import Rule
from symphony_fl.exchange.selection.density import (
    Adaptive,
    Constant,
    Density,
    ExponentialDecay,
    LinearDecay,
    density_for_budget,
)
from symphony_fl.exchange.selection.selection import SELECTIONS, Selection, build_selection
from symphony_fl.exchange.topology import TOPOLOGIES, Topology, build_topology
from symphony_fl.learning.skills import SkillError, Task, install_prompts, install_registered, install_rows
from symphony_fl.learning.skills.datasets.prompt_answer import PromptAnswer
from symphony_fl.learning.tasks.task_sampler import held_out
from symphony_fl.registry import builder


def install_sources(recipe: Recipe) -> None:
    """See to it that this process asks the recipe's skills with the recipe's rows, before any task is drawn.

    Raises
    ------
    SkillError
        Names the section of the recipe that cannot be used, and why.
    """
    tasks = recipe.tasks
    rows = [
        PromptAnswer(
            item.name, item.source, item.split, item.metric, item.prompt, item.answer, item.max_new_tokens
        )
        for item in tasks.rows
    ]
    for section, install in (
        ("plugins", install_registered),
        ("tasks.rows", partial(install_prompts, rows)),
        ("tasks.sources", partial(install_rows, tasks.sources, tasks.skills)),
    ):
        try:
            install()
        except SkillError as error:
            raise SkillError(f"{section}: {error}") from None


def recipe_topology(recipe: Recipe) -> Topology:
    """The graph of the run."""
    name, agents, seed = recipe.topology.name, recipe.agents, recipe.seed
    match recipe.topology:
        case KRegularOptions(degree=degree) | FreshKRegularOptions(degree=degree):
            return _topology(name, agents, seed, degree=degree)
        case SmallWorldOptions(degree=degree, probability=probability):
            return _topology(name, agents, seed, degree=degree, probability=probability)
        case EdgesOptions(edges=edges):
            return _topology(name, agents, seed, edges=tuple(map(tuple, edges)))
        case options if name not in TOPOLOGIES:
            built: Topology = builder("topologies", name)(options=options, agents=agents, seed=seed)
            return built
        case _:
            return _topology(name, agents, seed)


@lru_cache(maxsize=8)
def _topology(
    name: str,
    agents: int,
    seed: int,
    degree: int = 3,
    probability: float = 0.2,
    edges: tuple[tuple[int, ...], ...] | None = None,
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
    options = recipe.exchange.selection
    if not isinstance(options, SparseOptions):
        return Constant(1.0)
    match options.schedule:
        case LinearOptions(floor=floor):
            return LinearDecay(options.density, floor, recipe.rounds)
        case ExponentialDecayOptions(floor=floor, decay=decay):
            return ExponentialDecay(options.density, decay, floor)
        case BudgetOptions(bytes=budget):
            bits = 8 * recipe_codec(recipe).nbytes(size) / size
            return density_for_budget(budget, size, bits, SELECTIONS[options.name].shared)
        case AdaptiveOptions(floor=floor, gain=gain, target=target):
            return Adaptive(options.density, floor, 1.0, target, gain)
        case _:
            return Constant(options.density)


def recipe_selection(recipe: Recipe, layout: Layout, density: Density) -> Selection:
    """S(.) of eq. 3."""
    options = recipe.exchange.selection
    match options:
        case TopKOptions(per_layer=per_layer):
            return build_selection(options.name, layout, density, per_layer=per_layer)
        case ThresholdOptions(per_layer=per_layer, factor=factor):
            return build_selection(options.name, layout, density, per_layer=per_layer, factor=factor)
        case DenseOptions():
            return build_selection(options.name, layout)
        case _ if options.name not in SELECTIONS:
            built: Selection = builder("selections", options.name)(
                options=options, layout=layout, seed=recipe.seed
            )
            return built
        case _:
            return build_selection(options.name, layout, density, seed=recipe.seed)


def recipe_rule(recipe: Recipe, size: int, agent: int) -> Rule:
    """A(.) and alpha of eq. 4 for an adapter of `size` entries, with a fresh state."""
    match recipe.exchange.rule:
        case AverageOptions(alpha=alpha):
            return _defended(recipe, Average(size, alpha), size)
        case DeltaOptions(alpha=alpha, scaling=scaling, momentum=momentum):
            return _defended(recipe, Delta(size, alpha, scaling, momentum), size)
        case ChocoOptions(gamma=gamma):
            return _defended(recipe, Choco(size, gamma), size)
        case NoLoCoOptions(momentum=momentum, step=step, pull=pull):
            return _defended(recipe, NoLoCo(size, momentum, step, pull), size)
        case EpidemicOptions() as options:
            combiner = _combiner(recipe, options.combine, size)
            return Epidemic(size, agent, combiner, options.eta, options.keep, options.window, options.hops)
        case other:
            build = builder("rules", other.name)
            rule: Rule = build(options=other, size=size, agent=agent, agents=recipe.agents)
            return _defended(recipe, rule, size)


def _defended(recipe: Recipe, rule: Rule, size: int) -> Rule:
    match recipe.exchange.robust:
        case ClipOptions(factor=factor):
            return Clipped(rule, size, factor)
        case MedianOptions():
            return Middle(rule, size, None)
        case TrimmedOptions(trim=trim):
            return Middle(rule, size, trim)
        case _:
            return rule


def _combiner(recipe: Recipe, combine: str, size: int) -> Combiner:
    """How epidemic averages the updates of one round."""
    agents = recipe.agents
    match recipe.exchange.robust:
        case ClipOptions(factor=factor, agreement=agreement):
            return Clip(size, agents, factor, agreement)
        case MedianOptions():
            return Robust(size, agents, None)
        case TrimmedOptions(trim=trim):
            return Robust(size, agents, trim)
        case _:
            return MeanOfAgents(size, agents) if combine == "agents" else MeanOfSenders(size, agents)


def recipe_codec(recipe: Recipe) -> Codec:
    """How values travel."""
    options = recipe.exchange.codec
    if options.name not in CODECS:
        built: Codec = builder("codecs", options.name)(options=options)
        return built
    if isinstance(options, ScaledOptions):
        return build_codec(options.name, options.block)
    return build_codec(options.name)


def recipe_attack(recipe: Recipe, agent: int) -> Callable[[np.ndarray, int], np.ndarray] | None:
    """(movement [P], round) -> what a hostile agent sends in its place; None for an honest one."""
    options = recipe.adversary.attack
    if agent not in recipe.adversary.agents or isinstance(options, NoAttackOptions):
        return None
    strength = (
        options.strength if isinstance(options, ScaleOptions | RandomAttackOptions | ColludeOptions) else 1.0
    )
    return lambda movement, round: attack(options.name, movement, strength, recipe.seed, agent, round)
