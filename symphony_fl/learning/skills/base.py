"""What a task and a skill are. No torch: the server's face and the recipes may import this."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np


class SkillError(ValueError):
    """A skill was asked for something it does not have (an unknown name, a difficulty out of range)."""


class ProposalError(SkillError):
    """A proposed task that is not one; the message begins with a short reason."""


@dataclass(frozen=True)
class Task:
    """One question with a checkable answer.

    ``prompt`` is the exact text the model is fed (few-shot examples included), so two tasks are the same task
    if and only if their prompts are equal. ``origin`` is one of generated, proposed, received, requested.
    """

    skill: str
    prompt: str
    answer: str
    difficulty: int = 1
    origin: str = "generated"


class Skill(Protocol):
    """A kind of task: it draws tasks and it judges completions.

    ``difficulties`` are the levels ``generate`` accepts, in rising order; ``max_new_tokens`` is the length (end of
    sequence included) within which every right answer fits.
    """

    @property
    def name(self) -> str: ...

    @property
    def difficulties(self) -> range: ...

    @property
    def max_new_tokens(self) -> int: ...

    def generate(self, rng: np.random.Generator, difficulty: int | None = None) -> Task:
        """Draw one task; ``None`` draws the difficulty uniformly first. All chance comes from ``rng``."""
        ...

    def verify(self, task: Task, completion: str) -> float:
        """The reward of a completion (text without the prompt), in [0, 1]."""
        ...


def draw_difficulty(rng: np.random.Generator, levels: range, difficulty: int | None, skill: str) -> int:
    """The given difficulty, checked, or one drawn uniformly from ``levels``.

    Raises:
        SkillError: the given difficulty is not one of ``levels``.
    """
    if difficulty is None:
        return int(levels[rng.integers(len(levels))])
    if difficulty not in levels:
        raise SkillError(f"skill {skill!r}: difficulty {difficulty} is outside {levels[0]}..{levels[-1]}")
    return difficulty
