"""What a task and a skill are. No torch: the server's face and the recipes may import this."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import numpy as np

from symphony_fl.learning.executors.allowance import Allowance


class SkillError(ValueError):
    """A skill was asked for something it does not have (an unknown name, a difficulty out of range)."""


ProposalReason = Literal[
    "unparsable", "too_long", "out_of_bounds", "refused", "executor", "non_deterministic", "trivial"
]


class ProposalError(SkillError):
    """A proposed task is no task. ``reason`` is short enough to be counted by:

    unparsable         it has not the form that was asked for
    too_long           it, or its answer, exceeds the skill's length limit
    out_of_bounds      well formed, but not of this difficulty
    refused            it uses what the executor forbids
    executor           the executor ran it and found no answer: an exception, a time or memory limit
    non_deterministic  two runs gave two answers
    trivial            its answer does not depend on the question
    """

    def __init__(self, reason: ProposalReason, detail: str) -> None:
        super().__init__(f"proposal refused, {reason}: {detail}")
        self.reason = reason


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


@runtime_checkable
class ProposingSkill(Skill, Protocol):
    """A skill whose tasks a model can write as well (self-play, section 5.1), and that can be asked as a chat."""

    def propose_prompt(self, examples: Sequence[Task], difficulty: int) -> str:
        """The text with which a model is asked for a new task of this difficulty, after the given examples.

        Raises
        ------
        SkillError
            An example of another skill, or a difficulty out of range.
        """
        ...

    def parse_proposal(self, text: str, difficulty: int) -> Task:
        """The task in a model's completion of ``propose_prompt``, its answer computed by the skill's own executor.

        ``origin`` is "proposed". The text is untrusted.

        Raises
        ------
        ProposalError
            It is no valid task of this difficulty; ``reason`` says why.
        """
        ...

    def chat(self, task: Task) -> list[dict[str, str]]:
        """The same task as messages (``role``, ``content``) for an instruction-tuned model's chat template."""
        ...


@runtime_checkable
class TeachableSkill(ProposingSkill, Protocol):
    """A skill whose form of proposals a model can be taught by examples, where it would not find it by itself."""

    def proposal_of(self, task: Task) -> str:
        """What a model would write to propose this task: `parse_proposal` reads it back."""
        ...


@runtime_checkable
class ComputingSkill(ProposingSkill, Protocol):
    """A skill that says whether it takes tasks from strangers: see `computes_answer`."""

    @property
    def computes_answer(self) -> bool:
        """True where the question alone decides the answer and `parse_proposal` computes it, so that no text can bring
        a wrong one. False where a proposal brings its answer along, or the query or expression that gives it, and
        only its plausibility is checked."""
        ...


@runtime_checkable
class ExecutingSkill(ProposingSkill, Protocol):
    """A skill whose proposals are programs that must be run, which takes time."""

    def parse_within(self, text: str, difficulty: int, allowance: Allowance) -> Task:
        """As `parse_proposal`, within what is left of the allowance, and charged to it."""
        ...


def draw_difficulty(rng: np.random.Generator, levels: range, difficulty: int | None, skill: str) -> int:
    """The given difficulty, checked, or one drawn uniformly from ``levels``.

    Raises
    ------
    SkillError
        The given difficulty is not one of ``levels``.
    """
    if difficulty is None:
        return int(levels[rng.integers(len(levels))])
    check_difficulty(levels, difficulty, skill)
    return difficulty


def check_difficulty(levels: range, difficulty: int, skill: str) -> None:
    """Raises SkillError unless the difficulty is one of ``levels``."""
    if difficulty not in levels:
        raise SkillError(f"skill {skill!r}: difficulty {difficulty} is outside {levels[0]}..{levels[-1]}")
