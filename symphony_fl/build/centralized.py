"""What `centralized` needs to know of a recipe: who trains, who generates what, how weights spread, what it refuses.

Agent 0 is the trainer, all others are rollout workers; a trainer without workers generates itself. A round is one
step. The tasks of a step, and the parts they are dealt out in, are the same however many workers there are.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TypeVar

import numpy as np

from symphony_fl.config.options import Recipe
from symphony_fl.config.recipe import RecipeError
from symphony_fl.config.strategy import CentralizedOptions

TRAINER = 0
Item = TypeVar("Item")

_STREAM = 0x52  # separates the chance of rollouts from other chance of the same seed


def is_centralized(recipe: Recipe) -> bool:
    """True where agent 0 trains and the others sample for it."""
    return isinstance(recipe.strategy, CentralizedOptions)


def workers(agents: int) -> range:
    """The numbers of the rollout workers."""
    return range(1, agents)


def parts_of(agent: int, agents: int, parts: int) -> list[int]:
    """The parts of every step that an agent generates; the trainer's are all, where there are no workers."""
    if agents == 1:
        return list(range(parts))
    return [] if agent == TRAINER else list(range(agent - 1, parts, agents - 1))


def dealt(tasks: Sequence[Item], part: int, parts: int) -> list[Item]:
    """A part of a step's tasks: contiguous, sizes differ by at most one."""
    bounds = [len(tasks) * number // parts for number in range(parts + 1)]
    return list(tasks[bounds[part] : bounds[part + 1]])


def rollout_seed(seed: int, step: int, part: int) -> int:
    """What the chance of a part's completions is drawn from. Known to the trainer, whoever generates."""
    return int(np.random.SeedSequence([seed, _STREAM, step, part]).generate_state(1)[0])


def children(agent: int, agents: int, fanout: int, present: Collection[int]) -> list[int]:
    """Whom an agent hands weights to, in a heap-ordered tree. A worker that is not there is given them for later, and
    those below it at once."""
    if not fanout:
        return list(workers(agents)) if agent == TRAINER else []
    found: list[int] = []
    for child in _heap_children(agent, agents, fanout):
        found += [child] if child in present else [child, *children(child, agents, fanout, present)]
    return found


def hands_on(agent: int, agents: int, fanout: int) -> bool:
    """Whether a worker has workers below it."""
    return bool(fanout) and len(_heap_children(agent, agents, fanout)) > 0


def depth(agents: int, fanout: int) -> int:
    """Steps that weights take to the furthest worker: one per edge of the tree."""
    if not fanout:
        return 1
    found, agent = 0, agents - 1
    while agent > TRAINER:
        agent, found = (agent - 1) // fanout, found + 1
    return found


def usual_age(agents: int, fanout: int, lag: int) -> int:
    """Steps between the weights that the furthest worker generates with and those in training, if all goes well. While
    workers and trainer work at once, weights travel an edge per step; else the first edge takes no time."""
    way = depth(agents, fanout)
    return max(lag, way) if lag else way - 1


def oldest_age(recipe: Recipe) -> int:
    """The same of the oldest weights whose rollouts are taken."""
    options = recipe.centralized
    return usual_age(recipe.agents, options.fanout, options.lag) + options.slack


def kept_outboxes(recipe: Recipe) -> int:
    """How many steps' outboxes a home keeps, so that a server that lost its mail can be given it again."""
    options = recipe.centralized
    return 2 + options.lag + depth(recipe.agents, options.fanout)


def check_centralized(recipe: Recipe) -> None:
    """Refuse what a trainer and its workers have no part for.

    Raises
    ------
    RecipeError
        Names the field, its value and what is allowed.
    """
    if not is_centralized(recipe):
        if recipe.agents < 2:
            raise RecipeError("agents = 1: must be at least 2, but for strategy 'centralized'")
        return
    options = recipe.centralized
    for field, value, only in (
        ("learner", recipe.learner.name, "grpo"),
        ("learner.steps", recipe.learner.steps, 1),
        ("tasks.split", recipe.tasks.split, "all"),
        ("memory", recipe.memory.name, "none"),
        ("selfplay", recipe.selfplay.name, "none"),
        ("reward", recipe.reward.name, "local"),
        ("exchange.encryption", recipe.exchange.encryption, "none"),
    ):
        if value != only:
            _refuse(field, value, repr(only))
    if options.send == "weights":
        if recipe.exchange.selection.name != "dense":
            _refuse(
                "exchange.selection", recipe.exchange.selection.name, "'dense' for strategy.send = 'weights'"
            )
        for field, given in (("momentum", options.momentum), ("whole_every", options.whole_every)):
            if given:
                _refuse(f"strategy.{field}", given, "0 for strategy.send = 'weights'")
    if not recipe.agents - 1 <= options.parts <= recipe.learner.prompts:
        allowed = (
            f"from the number of workers, {recipe.agents - 1}, to learner.prompts, {recipe.learner.prompts}"
        )
        _refuse("strategy.parts", options.parts, allowed)
    if recipe.agents == 1 and options.lag:
        _refuse("strategy.lag", options.lag, "0 where there are no workers (agents = 1)")


def _heap_children(agent: int, agents: int, fanout: int) -> range:
    first = agent * fanout + 1
    return range(min(first, agents), min(first + fanout, agents))


def _refuse(field: str, value: object, allowed: str) -> None:
    raise RecipeError(f"{field} = {value!r}: must be {allowed} (strategy 'centralized')")
