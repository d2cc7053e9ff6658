"""Which tasks are trained on and which are only ever asked: a split no seed can blur.

A fixed tenth of all prompts is reserved: the prompts whose SHA-256 is 0 modulo 10. Held-out tasks are drawn from that
tenth only; everything that trains (the warm start of the embedded model, every agent's learner) draws from the
rest only. So training and evaluation are disjoint as texts for every pair of seeds, and anyone can check it by hashing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from symphony_fl.learning.skills import SkillError, Task, get_skill
from symphony_fl.learning.skills.base import Skill

RESERVED_ONE_IN = 10
_DRAWS_PER_TASK = 1000  # draws before a request is called impossible; a training draw fails 1 in 10
_HELD_OUT_TAG = 0x48454C44  # keeps the two streams apart when both are given the same seed
_TRAIN_TAG = 0x54524149


def is_reserved(prompt: str) -> bool:
    """Whether this prompt belongs to the tenth that never trains anything."""
    return int.from_bytes(hashlib.sha256(prompt.encode()).digest()[:8], "big") % RESERVED_ONE_IN == 0


def held_out(skills: Sequence[str], per_skill: int, seed: int) -> list[Task]:
    """``per_skill`` reserved tasks of each skill, all prompts distinct, grouped by skill in the given order.

    A skill's tasks depend on (skill, per_skill, seed) only, so recipes that share these are compared on the same
    tasks whatever else they hold. Difficulties are drawn uniformly; one whose reserved prompts are used up
    (strings of one letter) is made up for by the others.

    Raises
    ------
    SkillError
        An unknown skill, or one that has fewer than ``per_skill`` reserved prompts.
    """
    tasks: list[Task] = []
    for name in skills:
        tasks += _held_out_of(get_skill(name), per_skill, seed)
    return tasks


def held_out_level(skill: str, difficulty: int, count: int, seed: int) -> list[Task]:
    """``count`` reserved tasks of a skill, all of one difficulty and distinct.

    Raises
    ------
    SkillError
        An unknown skill, a difficulty it does not have, or fewer than ``count`` reserved prompts of it.
    """
    return _held_out_of(get_skill(skill), count, seed, difficulty)


def _held_out_of(skill: Skill, count: int, seed: int, difficulty: int | None = None) -> list[Task]:
    level = [] if difficulty is None else [difficulty]
    rng = np.random.default_rng([seed, _HELD_OUT_TAG, *level, *skill.name.encode()])
    found: dict[str, Task] = {}
    for _ in range(_DRAWS_PER_TASK * count):
        if len(found) == count:
            break
        task = skill.generate(rng, difficulty)
        if is_reserved(task.prompt):
            found.setdefault(task.prompt, task)
    if len(found) < count:
        raise SkillError(
            f"skill {skill.name!r} has only about {len(found)} held-out prompts and {count} were asked for: "
            f"ask for fewer tasks per skill"
        )
    return list(found.values())


class Sampler(Protocol):
    """What a learner draws its training tasks from."""

    def sample(self, n: int, round: int, step: int) -> list[Task]:
        """``n`` tasks, the same for the same (sampler, round, step), never a reserved prompt."""
        ...


class TaskSampler:
    """Training tasks, the same for the same (seed, round, step), never a reserved prompt nor one in ``exclude``.

    Raises
    ------
    SkillError
        No skill was given, or an unknown or repeated one.
    """

    def __init__(self, skills: Sequence[str], seed: int, exclude: frozenset[str] = frozenset()) -> None:
        if not skills:
            raise SkillError("a task sampler needs at least one skill")
        if len(set(skills)) != len(skills):
            raise SkillError(f"a skill is named twice: {', '.join(skills)}")
        self.skills = tuple(get_skill(name) for name in skills)
        self.seed = seed
        self.exclude = exclude

    def sample(self, n: int, round: int, step: int) -> list[Task]:
        """``n`` tasks. Every skill gets n // len(skills) of them, chance decides who gets the rest and the order.

        Raises
        ------
        SkillError
            A skill's prompts are (nearly) all excluded.
        """
        rng = np.random.default_rng([self.seed, _TRAIN_TAG, round, step])
        rest = rng.permutation(len(self.skills))[: n % len(self.skills)]
        chosen = [*range(len(self.skills))] * (n // len(self.skills)) + rest.tolist()
        return [draw_training_task(self.skills[i], rng, self.exclude) for i in rng.permutation(chosen)]


def draw_training_task(
    skill: Skill,
    rng: np.random.Generator,
    exclude: frozenset[str] = frozenset(),
    difficulty: int | None = None,
) -> Task:
    """One task of a skill, of a given difficulty if any, never a reserved prompt nor one in ``exclude``.

    Raises
    ------
    SkillError
        (nearly) all prompts are excluded, or the skill does not have that difficulty.
    """
    for _ in range(_DRAWS_PER_TASK):
        task = skill.generate(rng, difficulty)
        if not is_reserved(task.prompt) and task.prompt not in exclude:
            return task
    level = "" if difficulty is None else f" of difficulty {difficulty}"
    raise SkillError(
        f"skill {skill.name!r}: {_DRAWS_PER_TASK} draws gave no prompt{level} to train on; too many are excluded"
    )
