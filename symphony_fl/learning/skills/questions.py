"""Questions in plain lines for small models, as messages for chat models, and skills made of them.

    Q: Tom has 5 apples and buys 4 more. How many apples has he?
    A: Tom has 5 + 4 = 9 apples.
    #### 9

    Q: ...
    A:

A *question* is everything of a task before its ``A:`` (a passage too); the *form* puts the same worked examples
before every question of a skill, so two prompts differ exactly when their questions do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from symphony_fl.learning.skills.base import SkillError, Task, draw_difficulty
from symphony_fl.learning.skills.proposals import Proposals


@dataclass(frozen=True)
class Form:
    """How a question is put: ``examples`` are (question, answer) for few-shot, ``instruction`` is for chat models."""

    instruction: str
    examples: tuple[tuple[str, str], ...]

    def prompt(self, question: str) -> str:
        return f"{self._shown()}{question}\nA:"

    def question(self, prompt: str) -> str:
        """The question inside a prompt of this form.

        Raises
        ------
        SkillError
            The prompt is of another form.
        """
        shown = self._shown()
        if not (prompt.startswith(shown) and prompt.endswith("\nA:")):
            raise SkillError(f"prompt of another form: {prompt[:60]!r}")
        return prompt[len(shown) : -len("\nA:")]

    def chat(self, question: str) -> list[dict[str, str]]:
        """The question as chat messages, without the few-shot examples."""
        content = question.removeprefix("Q: ")
        return [{"role": "system", "content": self.instruction}, {"role": "user", "content": content}]

    def _shown(self) -> str:
        return "".join(f"{question}\nA: {answer}\n\n" for question, answer in self.examples)


@dataclass(frozen=True)
class QuestionSkill:
    """A skill whose tasks are questions of one form.

    ``draw(rng, difficulty)`` gives (question, answer); where several answers are accepted, an answer holds one
    a line. ``score(completion, answers)`` is in [0, 1]. It satisfies ``Skill``, and proposes.
    """

    name: str
    form: Form
    draw: Callable[[np.random.Generator, int], tuple[str, str]]
    score: Callable[[str, Sequence[str]], float]
    proposals: Proposals
    difficulties: range
    max_new_tokens: int

    @property
    def computes_answer(self) -> bool:
        return self.proposals.computes_answer

    def generate(self, rng: np.random.Generator, difficulty: int | None = None) -> Task:
        level = draw_difficulty(rng, self.difficulties, difficulty, self.name)
        question, answer = self.draw(rng, level)
        return Task(self.name, self.form.prompt(question), answer, level)

    def verify(self, task: Task, completion: str) -> float:
        return self.score(completion, task.answer.split("\n"))

    def chat(self, task: Task) -> list[dict[str, str]]:
        """The task for an instruct model: its chat template's input.

        Raises
        ------
        SkillError
            A task of another skill.
        """
        return self.form.chat(self.form.question(task.prompt))

    def propose_prompt(self, examples: Sequence[Task], difficulty: int) -> str:
        """The text with which a model is asked for a new task; its continuation is for ``parse_proposal``.

        Raises
        ------
        SkillError
            The difficulty is not one of the skill's, or an example is of another skill.
        """
        self._check(difficulty)
        known = [(self.form.question(task.prompt), task.answer.split("\n")[0]) for task in examples]
        return self.proposals.prompt(known, difficulty)

    def parse_proposal(self, text: str, difficulty: int) -> Task:
        """The task that a model wrote, checked by the family's executor; its origin is "proposed".

        Raises
        ------
        ProposalError
            The text is no task of that difficulty.
        SkillError
            The difficulty is not one of the skill's.
        """
        self._check(difficulty)
        question, answer = self.proposals.parse(text, difficulty)
        return Task(self.name, self.form.prompt(question), answer, difficulty, origin="proposed")

    def _check(self, difficulty: int) -> None:
        if difficulty not in self.difficulties:
            raise SkillError(
                f"skill {self.name!r}: difficulty {difficulty} is outside "
                f"{self.difficulties[0]}..{self.difficulties[-1]}"
            )
