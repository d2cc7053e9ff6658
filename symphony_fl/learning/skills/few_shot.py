"""Skills asked, and proposed, as plain few-shot lines: a form that base models of any size understand.

    asked              proposed
    3 + 4 = 7          Sum: 21 + 6
    21 + 6 = 27        Sum: 14 + 3
    34 + 15 = 49       Sum: 28 + 5
    12 + 25 =          Sum:

A *question* is the part of a line that differs from task to task, ``12 + 25``; a skill's frame stands around it. The
examples of answering are the same for every task of a skill, so two prompts differ exactly when their questions do.
The examples of proposing are of one difficulty and have no answers: a model continues with one more question, whose
answer is computed here, by the same function that answers generated ones. The prompt ends behind the words that all
questions begin with, since at the beginning of a line small chat models soon speak of something else.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from symphony_fl.learning.skills.arithmetic_shots import Shots
from symphony_fl.learning.skills.base import (
    ProposalError,
    SkillError,
    Task,
    check_difficulty,
    draw_difficulty,
)

LONGEST = 80  # characters of a proposed question
NUMBER = re.compile(r"(-?\d+)[^\d\n]*")


@dataclass(frozen=True)
class FewShotSkill:
    """One skill. It satisfies ``Skill``, proposes, and can teach how to.

    Attributes
    ----------
    draw : (rng, difficulty) to a question.
    solve : (question, difficulty) to its answer; raises ProposalError for what ``draw`` could not have written in
        form and bounds.
    examples : of answering, before every question.
    frame : what stands before and behind a question in its prompt.
    shots : what a proposer is shown, by difficulty.
    instruction : what a chat model is told.
    answer_form : must match a whole line; its group is the answer.
    """

    name: str
    draw: Callable[[np.random.Generator, int], str]
    solve: Callable[[str, int], str]
    examples: str
    frame: tuple[str, str]
    shots: Mapping[int, Shots]
    instruction: str
    difficulties: range
    answer_form: re.Pattern[str] = NUMBER
    max_new_tokens: int = 6

    @property
    def computes_answer(self) -> bool:
        return True

    def generate(self, rng: np.random.Generator, difficulty: int | None = None) -> Task:
        level = draw_difficulty(rng, self.difficulties, difficulty, self.name)
        return self._task(self.draw(rng, level), level, "generated")

    def verify(self, task: Task, completion: str) -> float:
        """1 if the completion's first line gives exactly the answer (a letter in either case), else 0."""
        found = self.answer_form.fullmatch(_first_line(completion))
        return float(found is not None and found.group(1).lower() == task.answer)

    def propose_prompt(self, examples: Sequence[Task], difficulty: int) -> str:
        """Questions of this difficulty, one a line, examples (those of it) before the last shot.

        Raises
        ------
        SkillError
            An example of another skill, or a difficulty out of range.
        """
        check_difficulty(self.difficulties, difficulty, self.name)
        known = [(self._question(task), task.difficulty) for task in examples]
        lead = self.shots[difficulty].lead
        *shots, last = self.shots[difficulty].questions
        shown = [*shots, *(question for question, level in known if level == difficulty), last]
        return "".join(f"{lead} {question}\n" for question in shown) + lead

    def proposal_of(self, task: Task) -> str:
        """The question alone, with the space before it, which belongs to a model's next token.

        Raises
        ------
        SkillError
            A task of another skill.
        """
        return f" {self._question(task)}"

    def parse_proposal(self, text: str, difficulty: int) -> Task:
        """The task of the question on the first line; the rest is not read.

        Raises
        ------
        ProposalError
            It is no question of this skill and difficulty.
        SkillError
            A difficulty out of range.
        """
        check_difficulty(self.difficulties, difficulty, self.name)
        line = " ".join(_first_line(text).split())
        if len(line) > LONGEST:
            raise ProposalError("too_long", f"{len(line)} characters, at most {LONGEST}")
        self.solve(line, difficulty)
        return self._task(line, difficulty, "proposed")

    def chat(self, task: Task) -> list[dict[str, str]]:
        """The question as a message, without the few-shot examples.

        Raises
        ------
        SkillError
            A task of another skill.
        """
        before, behind = self.frame
        question = f"{before}{self._question(task)}{behind}".removeprefix("Q: ").removesuffix("\nA:")
        return [{"role": "user", "content": f"{self.instruction}\n\n{question}"}]

    def _question(self, task: Task) -> str:
        before, behind = self.examples + self.frame[0], self.frame[1]
        if task.skill != self.name or not (task.prompt.startswith(before) and task.prompt.endswith(behind)):
            raise SkillError(f"skill {self.name!r}: {task.prompt[-60:]!r} is a task of another skill")
        return task.prompt[len(before) : len(task.prompt) - len(behind)]

    def _task(self, question: str, difficulty: int, origin: str) -> Task:
        prompt = self.examples + self.frame[0] + question + self.frame[1]
        return Task(self.name, prompt, self.solve(question, difficulty), difficulty, origin)


def _first_line(text: str) -> str:
    return text.split("\n", 1)[0].strip()
