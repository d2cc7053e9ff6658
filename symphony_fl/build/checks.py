"""Refuses recipes whose parts do not fit together, and options that would do nothing. Loads no model."""

from __future__ import annotations

from symphony_fl.build.asynchrony import check_asynchronous
from symphony_fl.build.centralized import check_centralized, is_centralized
from symphony_fl.build.components import (
    held_out_tasks,
    install_sources,
    recipe_density,
    recipe_rule,
    recipe_selection,
    recipe_topology,
)
from symphony_fl.build.generalization import check_generalization
from symphony_fl.config.exchange import ClipOptions, EpidemicOptions, NoDefenceOptions
from symphony_fl.config.explain import did_you_mean
from symphony_fl.config.learning import (
    CellsOptions,
    EpisodicOptions,
    FreeOptions,
    GRPOOptions,
    LearnabilityOptions,
    NoMemoryOptions,
    SelfPlayOptions,
    SharedRewardOptions,
)
from symphony_fl.config.network import EdgesOptions, NoAttackOptions
from symphony_fl.config.options import Recipe
from symphony_fl.config.recipe import LocalRecipeError, RecipeError
from symphony_fl.config.strategy import WallClockOptions
from symphony_fl.exchange.flat import Layout
from symphony_fl.exchange.rules.rule import MergeError
from symphony_fl.exchange.selection.density import DensityError
from symphony_fl.exchange.selection.selection import SelectionError
from symphony_fl.exchange.topology import TopologyError
from symphony_fl.learning.model.model_check import ModelError, check_model
from symphony_fl.learning.skills import SKILLS, SkillError
from symphony_fl.learning.skills.base import ProposingSkill, TeachableSkill
from symphony_fl.learning.tasks.task_sharing import can_be_shared
from symphony_fl.registry import RegistryError

_ANY_LAYOUT = Layout(names=("any",), shapes=((1 << 20,),))  # to check what does not depend on the model


def check_recipe(recipe: Recipe) -> Recipe:
    """The recipe itself, once everything it names exists and fits together. Loads no model.

    Raises
    ------
    RecipeError
        Names the field, its value and what is allowed.
    """
    _check_rows(recipe)
    try:
        install_sources(recipe)
    except SkillError as error:
        named = str(error).partition(":")[0]
        raise LocalRecipeError(str(error), f"{named}: cannot be used here") from None
    for skill in recipe.tasks.skills:
        if skill not in SKILLS:
            raise RecipeError(f"tasks.skills = {skill!r}: unknown{did_you_mean(skill, SKILLS)}")
    if not recipe.tasks.skills or len(set(recipe.tasks.skills)) != len(recipe.tasks.skills):
        raise RecipeError(f"tasks.skills = {recipe.tasks.skills}: must be at least one skill, none twice")
    _check_adversary(recipe)
    if recipe.exchange.encryption != "none" and recipe.strategy.name == "fedavg":
        raise RecipeError(
            "exchange.encryption: must be 'none' for strategy 'fedavg', whose server averages adapters"
        )
    check_centralized(recipe)
    _check_transport(recipe)
    _check_memory(recipe)
    _check_selfplay(recipe)
    _check_learner(recipe)
    _check_reward(recipe)
    _check_defence(recipe)
    try:
        if not is_centralized(recipe):  # has a tree of its own
            if isinstance(recipe.topology, EdgesOptions) and not recipe.topology.edges:
                raise RecipeError("topology.edges = []: must be pairs of agent numbers")
            check_asynchronous(recipe, recipe_topology(recipe))
        recipe_rule(recipe, size=1, agent=0)
        recipe_selection(recipe, _ANY_LAYOUT, recipe_density(recipe, _ANY_LAYOUT.size))
        check_model(recipe.model.name, recipe.model.quantization)
        held_out_tasks(recipe)
        check_generalization(recipe)
    except (TopologyError, MergeError, DensityError, SelectionError) as error:
        raise RecipeError(str(error)) from None
    except RegistryError as error:
        raise LocalRecipeError(str(error), "plugins: cannot be used here") from None
    except ModelError as error:
        raise LocalRecipeError(str(error), "model: cannot be used here") from None
    except SkillError as error:
        raise LocalRecipeError(str(error), "tasks: cannot be asked here") from None
    return recipe


def _check_rows(recipe: Recipe) -> None:
    """Rows have a name that is asked for, and a place that is the same for all processes of the run."""
    for rows in recipe.tasks.rows:
        if not rows.name.isidentifier() or rows.name not in recipe.tasks.skills:
            raise RecipeError(f"tasks.rows.name = {rows.name!r}: must be a word that tasks.skills names, too")
        local = rows.source.startswith(("/", "~"))
        if not local and not (rows.source.count("/") == 1 and not rows.source.startswith(".")):
            raise LocalRecipeError(
                f"tasks.rows.source = {rows.source!r}: must be a hub dataset owner/name, or a path from / or ~ on"
            )


def _check_adversary(recipe: Recipe) -> None:
    """Hostile agents exist, have something to send, and somebody to send it to."""
    hostile, attack = recipe.adversary.agents, recipe.adversary.attack
    for agent in hostile:
        if not 0 <= agent < recipe.agents:
            raise RecipeError(f"adversary.agents = {agent}: must be 0 to {recipe.agents - 1}")
    if hostile and not recipe.gossips:
        raise RecipeError(
            f"adversary.agents = {hostile}: only gossip can be attacked, not strategy {recipe.strategy.name!r}"
        )
    if hostile and isinstance(attack, NoAttackOptions):
        raise RecipeError(f"adversary.attack = 'none': must say what agents {hostile} send")
    if not hostile and not isinstance(attack, NoAttackOptions):
        raise RecipeError(f"adversary.agents = []: must name the agents that attack by {attack.name!r}")


def _check_transport(recipe: Recipe) -> None:
    """Agents that deliver mail to each other directly have edges, a process each, and no clock but the wall's."""
    if recipe.exchange.transport == "superlink":
        return
    named = f"exchange.transport = {recipe.exchange.transport!r}"
    if not recipe.gossips:
        raise RecipeError(
            f"{named}: must be 'superlink' for strategy {recipe.strategy.name!r}, which has no edges"
        )
    if recipe.agents_per_node > 1:
        raise RecipeError(
            f"agents_per_node = {recipe.agents_per_node}: must be 1 for {named}, which takes a process per agent"
        )
    if recipe.asynchronous and not isinstance(recipe.clock, WallClockOptions):
        raise RecipeError(
            f"clock = {recipe.clock.name!r}: must be 'wall' for {named}, whose mail comes when it comes"
        )


def _check_learner(recipe: Recipe) -> None:
    """Right answers fit, and no option of the learner is set for nothing."""
    learner = recipe.learner
    longest = max(SKILLS[skill].max_new_tokens for skill in recipe.tasks.skills)
    if learner.max_new_tokens < longest:
        raise RecipeError(
            f"learner.max_new_tokens = {learner.max_new_tokens}: must be at least {longest}, "
            "or right answers to these skills would not fit"
        )
    if isinstance(learner, GRPOOptions) and learner.ratio != "truncated":
        default = GRPOOptions().ratio_cap
        if learner.ratio_cap != default:
            raise RecipeError(
                f"learner.ratio_cap = {learner.ratio_cap}: acts only where learner.ratio is 'truncated'"
            )


def _check_memory(recipe: Recipe) -> None:
    """What reads a memory has one."""
    if not isinstance(recipe.memory, NoMemoryOptions):
        return
    for name, wanted in (
        ("curriculum = 'learnability'", isinstance(recipe.curriculum, LearnabilityOptions)),
        (f"selfplay = {recipe.selfplay.name!r}", isinstance(recipe.selfplay, SelfPlayOptions)),
    ):
        if wanted:
            raise RecipeError(f"memory = 'none': must be 'episodic' for {name}")


def _check_selfplay(recipe: Recipe) -> None:
    """Self-play has skills that can be proposed, a curriculum, and a learner that can train on its own tasks."""
    options = recipe.selfplay
    if not isinstance(options, SelfPlayOptions):
        return
    named = f"selfplay = {options.name!r}"
    for name in recipe.tasks.skills:
        if not isinstance(SKILLS[name], ProposingSkill):
            raise RecipeError(f"tasks.skills = {name!r}: a model cannot propose its tasks ({named})")
        if options.bootstrap and not isinstance(SKILLS[name], TeachableSkill):
            raise RecipeError(f"selfplay.bootstrap = {options.bootstrap}: must be 0 for skill {name!r}")
    if recipe.learner.prompts % options.group:
        raise RecipeError(
            f"learner.prompts = {recipe.learner.prompts}: must be a multiple of selfplay.group, {options.group}"
        )
    if not isinstance(recipe.learner, GRPOOptions):
        raise RecipeError(f"learner = {recipe.learner.name!r}: must be 'grpo' for {named}")
    if not isinstance(recipe.curriculum, LearnabilityOptions):
        raise RecipeError(f"curriculum = {recipe.curriculum.name!r}: must be 'learnability' for {named}")
    if isinstance(recipe.memory, EpisodicOptions) and recipe.memory.replay:
        raise RecipeError(
            f"memory.replay = {recipe.memory.replay}: must be 0 for {named}, which draws no tasks"
        )
    if isinstance(options, FreeOptions) and not options.bootstrap:
        raise RecipeError(f"selfplay.bootstrap = 0: must be above 0 for {named}")
    if isinstance(options, CellsOptions):
        _check_sharing(recipe, options.share)


def _check_sharing(recipe: Recipe, share: int) -> None:
    """Tasks that are shared have somewhere to go, and are taken there."""
    if not share:
        return
    if not recipe.gossips:
        raise RecipeError(f"selfplay.share = {share}: must be 0 for strategy {recipe.strategy.name!r}")
    if not any(map(can_be_shared, recipe.tasks.skills)):
        said = "answers to their tasks come with the proposals, so no receiver would take them"
        raise RecipeError(f"tasks.skills = {recipe.tasks.skills}: {said} (selfplay.share = {share})")


def _check_reward(recipe: Recipe) -> None:
    """A shared reward is heard, and acts on something."""
    options = recipe.reward
    if not isinstance(options, SharedRewardOptions):
        return
    named = "reward = 'shared'"
    if not recipe.gossips:
        raise RecipeError(
            f"{named}: must be 'local' for strategy {recipe.strategy.name!r}, in which agents hear no rewards"
        )
    plays = isinstance(recipe.selfplay, SelfPlayOptions)
    if options.use != "baseline" and not plays:
        raise RecipeError(f"reward.use = {options.use!r}: must be 'baseline' where selfplay is 'none'")
    if options.use != "proposer" and not isinstance(recipe.learner, GRPOOptions):
        raise RecipeError(f"learner = {recipe.learner.name!r}: must be 'grpo' for {named}")


def _check_defence(recipe: Recipe) -> None:
    """Options of a defence, or replaced by one, that would do nothing."""
    rule, robust = recipe.exchange.rule, recipe.exchange.robust
    epidemic = isinstance(rule, EpidemicOptions)
    if isinstance(robust, ClipOptions) and not epidemic and robust.agreement != ClipOptions().agreement:
        raise RecipeError(
            f"exchange.robust.agreement = {robust.agreement}: acts only with exchange.rule = 'epidemic'"
        )
    if isinstance(rule, EpidemicOptions) and rule.combine != "agents":
        if not isinstance(robust, NoDefenceOptions):
            raise RecipeError(
                f"exchange.rule.combine = {rule.combine!r}: must be 'agents' for exchange.robust = {robust.name!r}, "
                "which averages in its own way"
            )
