"""Six small skills for pretrained models, asked as plain few-shot lines (``few_shot.py``).

    skill         question                            difficulty
    addition      12 + 25                             1: 10-29 and one digit, 2: 10-49 each, 3: 50-99 and 10-49
    larger        Which is larger, [31 or 47?]        digits of both numbers, 1-3
    smaller       Which is smaller, [31 or 47?]       digits of both numbers, 1-3
    next_number   What number comes after [59?]       digits less one, 1-2
    first_letter  First letter of [tilo]              letters, 3-6 (made-up words: there are enough)
    word_problem  Tom has 5 apples and buys 4 more    1: add, 2: subtract, 3: add to a larger number

A word problem is answered by its sum, "5 + 4 = 9", of which the result is judged. A completion is judged by its first
line: the answer alone, or followed by words without further digits.

Proposals may hold other names, things and words, and of verbs those listed here, since whether to add or to subtract
hangs on them; and more numbers, as far as a question is still of one difficulty only. Sums: two digits and one; a first
number below 50 and two digits; one from 50 and two digits. Pairs: the digits of the larger. Word problems: the first
number has one digit (1), is below 100 (2), has two digits (3).
"""

from __future__ import annotations

import re

import numpy as np

from symphony_fl.learning.skills.arithmetic_shots import (
    ADDITION,
    FIRST_LETTER,
    LARGER,
    NEXT_NUMBER,
    SMALLER,
    WORD_PROBLEM,
)
from symphony_fl.learning.skills.base import ProposalError
from symphony_fl.learning.skills.few_shot import FewShotSkill

_RESULT = re.compile(r"(?:[^=\n]*=)?\s*(-?\d+)[^\d=\n]*")
_LETTER = re.compile(r"[\"']?([A-Za-z])(?![A-Za-z])[^\n]*")

_NAMES = ("Tom", "Anna", "Sam", "Lucy", "Ben", "Mia", "Leo", "Emma", "Jack", "Nora", "Paul", "Rosa")
_THINGS = ("apples", "books", "coins", "pens", "cards", "eggs", "stamps", "shells", "cookies", "berries")
_MORE = ("buys", "finds", "gets")
_LESS = ("loses", "sells", "drops")
_ONSETS = ("b", "c", "d", "f", "g", "h", "j", "k", "l", "m", "n", "p", "r", "s", "t", "v", "w", "z")
_VOWELS = ("a", "e", "i", "o", "u")

_PROPOSED_MORE = frozenset({*_MORE, "receives", "wins", "collects", "picks", "makes", "earns"})
_PROPOSED_LESS = frozenset({*_LESS, "eats", "uses", "breaks", "spends", "donates"})
_COUNT = r"([1-9][0-9]{0,3})"  # ASCII and without leading zeros: one number is written in one way
_SUM = re.compile(rf"{_COUNT} \+ {_COUNT}")
_PAIR = re.compile(rf"{_COUNT} or {_COUNT}\?")
_AFTER = re.compile(rf"{_COUNT}\?")
_WORD = re.compile(r"([a-z]+)")
_STORY = re.compile(
    rf"[A-Z][a-z]{{1,11}} has {_COUNT} [a-z]{{3,14}}(?: [a-z]{{3,14}})? and ([a-z]+) {_COUNT}( more)?"
)

_ADDENDS = {  # by difficulty
    1: (range(10, 30), range(1, 10)),
    2: (range(10, 50), range(10, 50)),
    3: (range(50, 100), range(10, 50)),
}
_PROPOSED_ADDENDS = {
    1: (range(10, 100), range(1, 10)),
    2: (range(10, 50), range(10, 100)),
    3: (range(50, 100), range(10, 100)),
}
_KEPT = {1: range(2, 10), 2: range(2, 10), 3: range(10, 21)}  # had and added to, or left
_CHANGED = range(1, 10)
_PROPOSED_HAD = {1: range(1, 10), 2: range(1, 100), 3: range(10, 100)}


def _draw(rng: np.random.Generator, numbers: range) -> int:
    return int(rng.integers(numbers[0], numbers[-1] + 1))


def _of_digits(digits: int) -> range:
    """The positive numbers of that many digits."""
    return range(10 ** (digits - 1), 10**digits)


def _read(form: re.Pattern[str], question: str) -> tuple[str, ...]:
    """The groups of a question of that form.

    Raises
    ------
    ProposalError
        It is of another form.
    """
    found = form.fullmatch(question)
    if found is None:
        raise ProposalError("unparsable", f"{question[:60]!r} has not the form {form.pattern!r}")
    return found.groups(default="")


def _require(number: int, allowed: range) -> None:
    if number not in allowed:
        raise ProposalError("out_of_bounds", f"{number} is outside {allowed[0]}..{allowed[-1]}")


def _draw_addition(rng: np.random.Generator, difficulty: int) -> str:
    first, second = _ADDENDS[difficulty]
    return f"{_draw(rng, first)} + {_draw(rng, second)}"


def _solve_addition(question: str, difficulty: int) -> str:
    numbers = [int(digits) for digits in _read(_SUM, question)]
    for number, allowed in zip(numbers, _PROPOSED_ADDENDS[difficulty], strict=True):
        _require(number, allowed)
    return str(sum(numbers))


def _draw_pair(rng: np.random.Generator, digits: int) -> str:
    """Two different numbers of that many digits."""
    a = _draw(rng, _of_digits(digits))
    b = _draw(rng, _of_digits(digits))
    return f"{a} or {b}?" if a != b else _draw_pair(rng, digits)


def _solve_larger(question: str, difficulty: int) -> str:
    return str(max(_read_pair(question, difficulty)))


def _solve_smaller(question: str, difficulty: int) -> str:
    return str(min(_read_pair(question, difficulty)))


def _read_pair(question: str, digits: int) -> tuple[int, int]:
    a, b = (int(number) for number in _read(_PAIR, question))
    _require(max(a, b), _of_digits(digits))
    if a == b:
        raise ProposalError("trivial", f"compares {a} with itself")
    return a, b


def _draw_next_number(rng: np.random.Generator, difficulty: int) -> str:
    return f"{_draw(rng, _of_digits(difficulty + 1))}?"


def _solve_next_number(question: str, difficulty: int) -> str:
    (number,) = _read(_AFTER, question)
    _require(int(number), _of_digits(difficulty + 1))
    return str(int(number) + 1)


def _draw_first_letter(rng: np.random.Generator, difficulty: int) -> str:
    """A made-up word of alternating consonants and vowels."""
    letters = [str(rng.choice(_VOWELS if place % 2 else _ONSETS)) for place in range(difficulty)]
    return "".join(letters)


def _solve_first_letter(question: str, difficulty: int) -> str:
    (word,) = _read(_WORD, question)
    if len(word) != difficulty:
        raise ProposalError("out_of_bounds", f"{word!r} has {len(word)} letters, not {difficulty}")
    return word[0]


def _draw_word_problem(rng: np.random.Generator, difficulty: int) -> str:
    name, thing = str(rng.choice(_NAMES)), str(rng.choice(_THINGS))
    b = _draw(rng, _CHANGED)
    a = _draw(rng, _KEPT[difficulty])
    if difficulty == 2:
        return f"{name} has {a + b} {thing} and {rng.choice(_LESS)} {b}"
    return f"{name} has {a} {thing} and {rng.choice(_MORE)} {b} more"


def _solve_word_problem(question: str, difficulty: int) -> str:
    had, verb, changed, more = _read(_STORY, question)
    a, b, adds = int(had), int(changed), verb in _PROPOSED_MORE
    if not adds and (more or verb not in _PROPOSED_LESS):
        raise ProposalError("unparsable", f"'{verb} {changed}{more}' is not known to add or to take away")
    if adds == (difficulty == 2):
        raise ProposalError("out_of_bounds", f"{verb!r} is not of difficulty {difficulty}")
    _require(a, _PROPOSED_HAD[difficulty])
    _require(b, _CHANGED)
    if b > a and not adds:
        raise ProposalError("out_of_bounds", f"{b} of {a} cannot be lost")
    return str(a + b if adds else a - b)


_NUMBER_ALONE = "Answer with the number alone."

ARITHMETIC: tuple[FewShotSkill, ...] = (
    FewShotSkill(
        "addition",
        _draw_addition,
        _solve_addition,
        "3 + 4 = 7\n21 + 6 = 27\n34 + 15 = 49\n",
        ("", " ="),
        ADDITION,
        _NUMBER_ALONE,
        range(1, 4),
    ),
    FewShotSkill(
        "larger",
        _draw_pair,
        _solve_larger,
        "Q: Which is larger, 8 or 3?\nA: 8\nQ: Which is larger, 25 or 61?\nA: 61\n",
        ("Q: Which is larger, ", "\nA:"),
        LARGER,
        _NUMBER_ALONE,
        range(1, 4),
    ),
    FewShotSkill(
        "smaller",
        _draw_pair,
        _solve_smaller,
        "Q: Which is smaller, 8 or 3?\nA: 3\nQ: Which is smaller, 25 or 61?\nA: 25\n",
        ("Q: Which is smaller, ", "\nA:"),
        SMALLER,
        _NUMBER_ALONE,
        range(1, 4),
    ),
    FewShotSkill(
        "next_number",
        _draw_next_number,
        _solve_next_number,
        "Q: What number comes after 7?\nA: 8\nQ: What number comes after 149?\nA: 150\n"
        "Q: What number comes after 32?\nA: 33\n",
        ("Q: What number comes after ", "\nA:"),
        NEXT_NUMBER,
        _NUMBER_ALONE,
        range(1, 3),
    ),
    FewShotSkill(
        "first_letter",
        _draw_first_letter,
        _solve_first_letter,
        "Q: First letter of garden\nA: g\nQ: First letter of melon\nA: m\nQ: First letter of tiger\nA: t\n",
        ("Q: First letter of ", "\nA:"),
        FIRST_LETTER,
        "Answer with the letter alone.",
        range(3, 7),
        answer_form=_LETTER,
    ),
    FewShotSkill(
        "word_problem",
        _draw_word_problem,
        _solve_word_problem,
        "Kim has 3 dolls and buys 4 more: 3 + 4 = 7\nMax has 9 nuts and loses 5: 9 - 5 = 4\n",
        ("", ":"),
        WORD_PROBLEM,
        "How many are there now? Write the sum or difference, like 3 + 4 = 7, and nothing else.",
        range(1, 4),
        answer_form=_RESULT,
        max_new_tokens=12,
    ),
)
