"""Six small skills for pretrained models, asked as plain few-shot lines; the answer is the rest of the line.

    3 + 4 = 7
    21 + 6 = 27
    34 + 15 = 49
    12 + 25 =

    skill         question                                difficulty
    addition      12 + 25 =                               1: 10-29 and one digit, 2: 10-49 each, 3: 50-99 and 10-49
    larger        Q: Which is larger, 31 or 47?           digits of both numbers, 1-3
    smaller       Q: Which is smaller, 31 or 47?          digits of both numbers, 1-3
    next_number   Q: What number comes after 59?          digits less one, 1-2
    first_letter  Q: First letter of tilo                 letters, 3-6 (made-up words: there are enough)
    word_problem  Tom has 5 apples and buys 4 more:       1: add, 2: subtract, 3: add to a larger number

A word problem is answered by its sum, "5 + 4 = 9", of which the result is judged. The examples are the same for
every task of a skill, so two prompts differ exactly when their questions do. A completion is judged by its first
line: the answer alone, or followed by words without further digits.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from symphony_fl.learning.skills.base import Task, draw_difficulty

_NUMBER = re.compile(r"(-?\d+)[^\d\n]*")
_RESULT = re.compile(r"(?:[^=\n]*=)?\s*(-?\d+)[^\d=\n]*")
_LETTER = re.compile(r"[\"']?([A-Za-z])(?![A-Za-z])[^\n]*")

_NAMES = ("Tom", "Anna", "Sam", "Lucy", "Ben", "Mia", "Leo", "Emma", "Jack", "Nora", "Paul", "Rosa")
_THINGS = ("apples", "books", "coins", "pens", "cards", "eggs", "stamps", "shells", "cookies", "berries")
_MORE = ("buys", "finds", "gets")
_LESS = ("loses", "sells", "drops")
_ONSETS = ("b", "c", "d", "f", "g", "h", "j", "k", "l", "m", "n", "p", "r", "s", "t", "v", "w", "z")
_VOWELS = ("a", "e", "i", "o", "u")


@dataclass(frozen=True)
class FewShotSkill:
    """One skill: `draw(rng, difficulty)` writes (question, answer); `examples` come before every question.

    A question is everything up to the answer. `answer_form` must match a whole line; its group is the answer.
    """

    name: str
    draw: Callable[[np.random.Generator, int], tuple[str, str]]
    examples: str
    difficulties: range
    answer_form: re.Pattern[str] = _NUMBER
    max_new_tokens: int = 6

    def generate(self, rng: np.random.Generator, difficulty: int | None = None) -> Task:
        level = draw_difficulty(rng, self.difficulties, difficulty, self.name)
        question, answer = self.draw(rng, level)
        return Task(self.name, self.examples + question, answer, level)

    def verify(self, task: Task, completion: str) -> float:
        """1 if the completion's first line gives exactly the answer (a letter in either case), else 0."""
        line = completion.split("\n", 1)[0].strip()
        found = self.answer_form.fullmatch(line)
        return float(found is not None and found.group(1).lower() == task.answer)


def _digits(rng: np.random.Generator, digits: int) -> int:
    """Uniform over the positive numbers of that many digits."""
    return int(rng.integers(10 ** (digits - 1), 10**digits))


def _addition(rng: np.random.Generator, difficulty: int) -> tuple[str, str]:
    low, high = {1: (10, 30), 2: (10, 50), 3: (50, 100)}[difficulty]
    a = int(rng.integers(low, high))
    b = int(rng.integers(1, 10) if difficulty == 1 else rng.integers(10, 50))
    return f"{a} + {b} =", str(a + b)


def _two_numbers(rng: np.random.Generator, digits: int) -> tuple[int, int]:
    """Two different numbers of that many digits."""
    a = _digits(rng, digits)
    b = _digits(rng, digits)
    return (a, b) if a != b else _two_numbers(rng, digits)


def _larger(rng: np.random.Generator, difficulty: int) -> tuple[str, str]:
    a, b = _two_numbers(rng, difficulty)
    return f"Q: Which is larger, {a} or {b}?\nA:", str(max(a, b))


def _smaller(rng: np.random.Generator, difficulty: int) -> tuple[str, str]:
    a, b = _two_numbers(rng, difficulty)
    return f"Q: Which is smaller, {a} or {b}?\nA:", str(min(a, b))


def _next_number(rng: np.random.Generator, difficulty: int) -> tuple[str, str]:
    number = _digits(rng, difficulty + 1)
    return f"Q: What number comes after {number}?\nA:", str(number + 1)


def _first_letter(rng: np.random.Generator, difficulty: int) -> tuple[str, str]:
    """A made-up word of alternating consonants and vowels."""
    letters = [str(rng.choice(_VOWELS if place % 2 else _ONSETS)) for place in range(difficulty)]
    return f"Q: First letter of {''.join(letters)}\nA:", letters[0]


def _word_problem(rng: np.random.Generator, difficulty: int) -> tuple[str, str]:
    name, thing = str(rng.choice(_NAMES)), str(rng.choice(_THINGS))
    b = int(rng.integers(1, 10))
    a = int(rng.integers(10, 21) if difficulty == 3 else rng.integers(2, 10))
    if difficulty == 2:
        return f"{name} has {a + b} {thing} and {rng.choice(_LESS)} {b}:", str(a)
    return f"{name} has {a} {thing} and {rng.choice(_MORE)} {b} more:", str(a + b)


ARITHMETIC: tuple[FewShotSkill, ...] = (
    FewShotSkill("addition", _addition, "3 + 4 = 7\n21 + 6 = 27\n34 + 15 = 49\n", range(1, 4)),
    FewShotSkill(
        "larger",
        _larger,
        "Q: Which is larger, 8 or 3?\nA: 8\nQ: Which is larger, 25 or 61?\nA: 61\n",
        range(1, 4),
    ),
    FewShotSkill(
        "smaller",
        _smaller,
        "Q: Which is smaller, 8 or 3?\nA: 3\nQ: Which is smaller, 25 or 61?\nA: 25\n",
        range(1, 4),
    ),
    FewShotSkill(
        "next_number",
        _next_number,
        "Q: What number comes after 7?\nA: 8\nQ: What number comes after 149?\nA: 150\n"
        "Q: What number comes after 32?\nA: 33\n",
        range(1, 3),
    ),
    FewShotSkill(
        "first_letter",
        _first_letter,
        "Q: First letter of garden\nA: g\nQ: First letter of melon\nA: m\nQ: First letter of tiger\nA: t\n",
        range(3, 7),
        answer_form=_LETTER,
    ),
    FewShotSkill(
        "word_problem",
        _word_problem,
        "Kim has 3 dolls and buys 4 more: 3 + 4 = 7\nMax has 9 nuts and loses 5: 9 - 5 = 4\n",
        range(1, 4),
        answer_form=_RESULT,
        max_new_tokens=12,
    ),
)
