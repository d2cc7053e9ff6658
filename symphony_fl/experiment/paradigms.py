"""What the paper's experiment compares (section 6.2): one recipe per paradigm, on the same model, tasks and samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from symphony_fl.build.centralized import is_centralized
from symphony_fl.build.checks import check_recipe
from symphony_fl.config.explain import did_you_mean
from symphony_fl.config.options import Recipe
from symphony_fl.config.recipe import RecipeError, load_recipe
from symphony_fl.learning.skills.arithmetic import ARITHMETIC

TRACKING = "symphony-paper"
"""The MLflow experiment of all its runs."""

TINY = "tiny"
UNSEEN = ("rotate", "subtract")
"""Of the embedded model's ten skills, those no agent trains on: eight are left, two for each of four agents."""
HARDER = tuple(
    f"{skill}_long:{level}" for skill in ("reverse", "sort", "swap", "max", "min") for level in (8, 9)
)
"""Letters and digits beyond the seven that training ends with."""

QUICK_STEPS = 4


@dataclass(frozen=True)
class Paradigm:
    """One row of every table. `name` is its recipe's; `sibling` the paradigm it would be without delay; `color` and
    `marker` are its own in every figure."""

    name: str
    title: str
    says: str
    color: str
    marker: str
    sibling: str = ""


CENTRAL, GOSSIP, ALONE = "sync_centralized", "given_tasks", "isolated"

PARADIGMS: tuple[Paradigm, ...] = (
    Paradigm(
        CENTRAL,
        "Synchronous Centralized",
        "one server generates and trains, one after the other, always with the latest weights; the upper bound",
        "#0072B2",
        "o",
    ),
    Paradigm(
        "async1_centralized",
        "One-Step Asynchronous Centralized",
        "workers generate with the weights of the step before, which reach them in full",
        "#56B4E9",
        "s",
        CENTRAL,
    ),
    Paradigm(
        "async2_decentralized",
        "Two-Step Asynchronous Decentralized",
        "untrusted workers, weights two or more steps old; sparse changes travel (SPARTA), rollouts are verified",
        "#009E73",
        "D",
        CENTRAL,
    ),
    Paradigm(
        "async2_full",
        "the same, full weights",
        "as before, but every broadcast holds all weights in float32",
        "#A6761D",
        "d",
        CENTRAL,
    ),
    Paradigm(
        GOSSIP,
        "Symphony gossip",
        "no server: every agent trains on skills of its own and learns the others from sparse, signed updates",
        "#D55E00",
        "^",
    ),
    Paradigm(
        "async_gossip",
        "Symphony gossip, asynchronous",
        "the same on devices of four speeds, without rounds in step (on a complete graph)",
        "#E69F00",
        "v",
        GOSSIP,
    ),
    Paradigm(
        "fedavg",
        "FedAvg",
        "Flower's own: a server averages all adapters in float32 every round",
        "#CC79A7",
        "P",
    ),
    Paradigm(ALONE, "Isolated", "the same agents, no exchange at all; the lower bound", "#7F7F7F", "X"),
)

BY_NAME = {paradigm.name: paradigm for paradigm in PARADIGMS}
QUICK = (CENTRAL, "async2_decentralized", GOSSIP, ALONE)
"""The paradigms of `--quick`: every table and figure has something to show."""


@dataclass(frozen=True)
class Planned:
    """One run: a paradigm, a seed, and the checked recipe that is both."""

    paradigm: str
    seed: int
    recipe: Recipe


def plan(names: Sequence[str], seeds: Sequence[int], model: str, quick: bool) -> list[Planned]:
    """All runs, the first seed of every paradigm first.

    Raises
    ------
    RecipeError
        An unknown paradigm or model, a recipe that does not fit, or paradigms that would train on unequal numbers of
        samples.
    """
    for name in names:
        if name not in BY_NAME:
            raise RecipeError(f"paradigm {name!r}: unknown{did_you_mean(name, BY_NAME)}")
    planned = [
        Planned(name, seed, check_recipe(_recipe(name, seed, model, quick)))
        for seed in seeds
        for name in names
    ]
    counts = {item.paradigm: total_samples(item.recipe) for item in planned}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{name} {count:,}" for name, count in counts.items())
        raise RecipeError(f"samples of the paradigms differ, must be equal to be compared: {listed}")
    return planned


def network_samples(recipe: Recipe) -> int:
    """Completions that the whole network is trained on in one round: steps x prompts x samples, of every agent that
    trains. In centralised paradigms that is one, and workers generate for it."""
    options = recipe.learner
    trainers = 1 if is_centralized(recipe) else recipe.agents
    return trainers * options.steps * options.prompts * options.samples


def total_samples(recipe: Recipe) -> int:
    """Completions that the whole network is trained on in the run."""
    return recipe.rounds * network_samples(recipe)


def _recipe(name: str, seed: int, model: str, quick: bool) -> Recipe:
    recipe = load_recipe(name, [f"seed={seed}", "tracking.trace=true", f"tracking.experiment={TRACKING}"])
    recipe = _in_step(recipe)
    recipe = _on_tiny(recipe) if model == TINY else _on_model(recipe, load_recipe(model))
    return _shortened(recipe) if quick else recipe


def _in_step(recipe: Recipe) -> Recipe:
    """Where every agent learns, in rounds as long as those of `given_tasks`: what is exchanged and evaluated is then
    exchanged and evaluated as often."""
    if is_centralized(recipe):
        return recipe
    main = load_recipe(GOSSIP)
    return recipe.model_copy(
        update={
            "rounds": main.rounds,
            "learner": recipe.learner.model_copy(update={"steps": main.learner.steps}),
            "tasks": recipe.tasks.model_copy(update={"evaluate_every": main.tasks.evaluate_every}),
        }
    )


def _on_tiny(recipe: Recipe) -> Recipe:
    """The embedded model on eight of its skills; two are left out, and longer questions are asked."""
    skills = [skill for skill in recipe.tasks.skills if skill not in UNSEEN]
    tasks = recipe.tasks.model_copy(update={"skills": skills, "unseen": list(UNSEEN), "harder": list(HARDER)})
    return recipe.model_copy(update={"tasks": tasks})


def _on_model(recipe: Recipe, other: Recipe) -> Recipe:
    """The paradigm with another recipe's model, adapter, learner and tasks (section 6.1).

    Rounds, steps and agents stay the paradigm's, and prompts keep their proportion to those of `given_tasks`, so that
    all paradigms still train on as many samples.
    """
    share = recipe.learner.prompts / load_recipe(GOSSIP).learner.prompts
    learner = other.learner.model_copy(
        update={"steps": recipe.learner.steps, "prompts": max(1, round(other.learner.prompts * share))}
    )
    arithmetic = [skill.name for skill in ARITHMETIC]
    left = [name for name in arithmetic if name not in other.tasks.skills]
    tasks = other.tasks.model_copy(
        update={
            "split": recipe.tasks.split,
            "evaluate_every": recipe.tasks.evaluate_every,
            "unseen": left if set(other.tasks.skills) <= set(arithmetic) else [],
        }
    )
    return recipe.model_copy(
        update={"model": other.model, "adapter": other.adapter, "learner": learner, "tasks": tasks}
    )


def _shortened(recipe: Recipe) -> Recipe:
    """A few small steps and few tasks: shows that everything works, and nothing about who is better."""
    steps = min(recipe.learner.steps, QUICK_STEPS // 2)
    rounds = QUICK_STEPS // steps
    prompts = max(1, recipe.learner.prompts // 2)
    learner = recipe.learner.model_copy(update={"steps": steps, "prompts": prompts, "samples": 4})
    tasks = recipe.tasks.model_copy(
        update={"held_out": min(recipe.tasks.held_out, 10), "evaluate_every": max(1, rounds // 2)}
    )
    return recipe.model_copy(update={"rounds": rounds, "learner": learner, "tasks": tasks})
