"""Ten procedural skills over short strings and small numbers, for the embedded model.

A prompt is one token that names the skill, the question, and ``=``; the answer follows and ends with the end of
sequence: ``<reverse>abc=`` -> ``cba``. The tokenizer of ``tiny`` reads every other character as one token.

    skill       question        answer      difficulty
    reverse     abcd            dcba        letters, 1-7 (so for every string skill)
    sort        dbca            abcd
    duplicate   abc             aabbcc
    next        abt             bca         each letter's successor; the last letter's is the first
    swap        abcde           badce       neighbours change places, pair by pair
    rotate      abcd            bcda        the first letter goes to the end
    max         741         7           the largest digit; digits, 1-7
    min         741         1
    add         17+2        19          digits of the first number, 1-3; at most 4 is added
    subtract    42-3        39          digits of the first number, 1-3; at most 4 is taken away

The ``_long`` and ``_far`` ones are the same skills, in the same prompts, with up to nine and up to sixteen letters or
digits: beyond what the embedded model was warm-started on, so that something new can be learnt.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from symphony_fl.learning.skills.base import ProposalError, SkillError, Task, draw_difficulty

LETTERS = "abcdefghijklmnopqrst"
DIGITS = "0123456789"
PUNCTUATION = "=+-"
LONGEST = 7
SMALL = 4


@dataclass(frozen=True)
class SymbolicSkill:
    """One symbolic skill: ``draw(rng, difficulty)`` writes a question, ``solve(question)`` is its one right answer.

    ``form(difficulty)`` is the regular expression of all questions that ``draw`` can write. ``word`` is the name in
    the prompt's token where that is another than the skill's.
    """

    name: str
    draw: Callable[[np.random.Generator, int], str]
    solve: Callable[[str], str]
    form: Callable[[int], str]
    difficulties: range
    max_new_tokens: int = 2 * LONGEST + 2
    word: str = ""

    @property
    def computes_answer(self) -> bool:
        return True

    def task(self, question: str, difficulty: int) -> Task:
        return Task(
            self.name, f"{skill_token(self.word or self.name)}{question}=", self.solve(question), difficulty
        )

    def generate(self, rng: np.random.Generator, difficulty: int | None = None) -> Task:
        level = draw_difficulty(rng, self.difficulties, difficulty, self.name)
        return self.task(self.draw(rng, level), level)

    def verify(self, task: Task, completion: str) -> float:
        """1 for exactly the answer, else 0."""
        return float(completion == task.answer)

    def propose_prompt(self, examples: Sequence[Task], difficulty: int) -> str:
        """``=<reverse>4=``, to which the model writes a question. Examples would not fit: none are shown."""
        if difficulty not in self.difficulties:
            levels = self.difficulties
            raise SkillError(
                f"skill {self.name!r}: difficulty {difficulty} is outside {levels[0]}..{levels[-1]}"
            )
        return f"={skill_token(self.word or self.name)}{difficulty}="

    def proposal_of(self, task: Task) -> str:
        """The question alone."""
        return question_of(task)

    def parse_proposal(self, text: str, difficulty: int) -> Task:
        """The task of a question that a model wrote; raises ProposalError."""
        longest = self.difficulties[-1] + 2
        if len(text) > longest:
            raise ProposalError("too_long", f"{len(text)} characters, at most {longest}")
        if not re.fullmatch(self.form(difficulty), text):
            other = any(re.fullmatch(self.form(level), text) for level in self.difficulties)
            said = f"{text!r} is no {self.name} question of difficulty {difficulty}"
            raise ProposalError("out_of_bounds" if other else "unparsable", said)
        return replace(self.task(text, difficulty), origin="proposed")

    def chat(self, task: Task) -> list[dict[str, str]]:
        """The task as a message; the embedded model has no chat template and is not asked so."""
        asked = f"Apply {self.name!r} to {question_of(task)!r}. Answer with the result alone."
        return [{"role": "user", "content": asked}]


def skill_token(name: str) -> str:
    """The token that opens every prompt of a skill."""
    return f"<{name}>"


def question_of(task: Task) -> str:
    """The question inside a symbolic prompt: ``<reverse>abc=`` -> ``abc``."""
    return task.prompt[task.prompt.index(">") + 1 : -1]


def _letters(rng: np.random.Generator, length: int) -> str:
    return "".join(LETTERS[i] for i in rng.integers(len(LETTERS), size=length))


def _digits(rng: np.random.Generator, length: int) -> str:
    return "".join(DIGITS[i] for i in rng.integers(len(DIGITS), size=length))


def _number(rng: np.random.Generator, digits: int) -> int:
    """Uniform over the numbers of that many digits; 0 counts among those of one."""
    return int(rng.integers(10 ** (digits - 1) if digits > 1 else 0, 10**digits))


def _sum(rng: np.random.Generator, digits: int) -> str:
    return f"{_number(rng, digits)}+{rng.integers(SMALL + 1)}"


def _difference(rng: np.random.Generator, digits: int) -> str:
    number = _number(rng, digits)
    return f"{number}-{rng.integers(min(number, SMALL) + 1)}"


def _duplicate(text: str) -> str:
    return "".join(letter * 2 for letter in text)


def _next(text: str) -> str:
    return "".join(LETTERS[(LETTERS.index(letter) + 1) % len(LETTERS)] for letter in text)


def _swap(text: str) -> str:
    return "".join(text[i : i + 2][::-1] for i in range(0, len(text), 2))


def _add(question: str) -> str:
    left, right = question.split("+")
    return str(int(left) + int(right))


def _subtract(question: str) -> str:
    left, right = question.split("-")
    return str(int(left) - int(right))


def _of_letters(length: int) -> str:
    return f"[{LETTERS[0]}-{LETTERS[-1]}]{{{length}}}"


def _of_digits(length: int) -> str:
    return f"[0-9]{{{length}}}"


def _a_number(digits: int) -> str:
    return "[0-9]" if digits == 1 else f"[1-9][0-9]{{{digits - 1}}}"


def _a_sum(digits: int) -> str:
    return rf"{_a_number(digits)}\+[0-{SMALL}]"


def _a_difference(digits: int) -> str:
    """Numbers of one digit below SMALL lose at most themselves."""
    small = "|".join(f"{number}-[0-{number}]" for number in range(SMALL))
    one = f"(?:{small}|[{SMALL}-9]-[0-{SMALL}])"
    return one if digits == 1 else f"{_a_number(digits)}-[0-{SMALL}]"


_LENGTHS = range(1, LONGEST + 1)
_SIZES = range(1, 4)

SYMBOLIC: tuple[SymbolicSkill, ...] = (
    SymbolicSkill("reverse", _letters, lambda text: text[::-1], _of_letters, _LENGTHS),
    SymbolicSkill("sort", _letters, lambda text: "".join(sorted(text)), _of_letters, _LENGTHS),
    SymbolicSkill("duplicate", _letters, _duplicate, _of_letters, _LENGTHS),
    SymbolicSkill("next", _letters, _next, _of_letters, _LENGTHS),
    SymbolicSkill("swap", _letters, _swap, _of_letters, _LENGTHS),
    SymbolicSkill("rotate", _letters, lambda text: text[1:] + text[:1], _of_letters, _LENGTHS),
    SymbolicSkill("max", _digits, max, _of_digits, _LENGTHS),
    SymbolicSkill("min", _digits, min, _of_digits, _LENGTHS),
    SymbolicSkill("add", _sum, _add, _a_sum, _SIZES),
    SymbolicSkill("subtract", _difference, _subtract, _a_difference, _SIZES),
)

HARDER = 9
"""Letters of the hardest ``_long`` questions: two more than the embedded model has ever been shown."""

FARTHEST = 16
"""Letters of the hardest ``_far`` questions: most of what they ask is beyond its reach for long."""


def _stretched(ending: str, hardest: int) -> tuple[SymbolicSkill, ...]:
    """The skills on text, with questions of up to so many letters or digits."""
    return tuple(
        replace(
            skill,
            name=skill.name + ending,
            word=skill.name,
            difficulties=range(1, hardest + 1),
            max_new_tokens=2 * hardest + 2,
        )
        for skill in SYMBOLIC
        if skill.difficulties == _LENGTHS
    )


LONG = _stretched("_long", HARDER)
FAR = _stretched("_far", FARTHEST)
