"""The symbolic skills against independent definitions of their answers."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from symphony_fl.learning.skills import SKILLS, SkillError, Task, get_skill
from symphony_fl.learning.skills.symbolic import LETTERS, SYMBOLIC, question_of

NAMES = [skill.name for skill in SYMBOLIC]


@pytest.mark.parametrize(
    ("skill", "question", "answer"),
    [
        ("reverse", "abcd", "dcba"),
        ("sort", "dbcab", "abbcd"),
        ("duplicate", "abc", "aabbcc"),
        ("next", "abt", "bca"),
        ("swap", "abcde", "badce"),
        ("rotate", "abcd", "bcda"),
        ("rotate", "a", "a"),
        ("max", "3941", "9"),
        ("min", "3941", "1"),
        ("add", "347+3", "350"),
        ("subtract", "350-3", "347"),
        ("subtract", "3-3", "0"),
    ],
)
def test_examples(skill: str, question: str, answer: str) -> None:
    found = next(s for s in SYMBOLIC if s.name == skill)
    assert found.task(question, 1) == Task(skill, f"<{skill}>{question}=", answer, 1)


def _expected(skill: str, question: str) -> str:
    """The answers once more, letter by letter."""
    letters = list(question)
    if skill == "reverse":
        return "".join(letters[len(letters) - 1 - i] for i in range(len(letters)))
    if skill == "sort":
        return "".join(letter for known in LETTERS for letter in letters if letter == known)
    if skill == "duplicate":
        return "".join(letters[i // 2] for i in range(2 * len(letters)))
    if skill == "next":
        return "".join((LETTERS + "a")[LETTERS.index(letter) + 1] for letter in letters)
    if skill == "swap":
        for i in range(0, len(letters) - 1, 2):
            letters[i], letters[i + 1] = letters[i + 1], letters[i]
        return "".join(letters)
    if skill == "rotate":
        return "".join([*letters[1:], letters[0]])
    if skill in ("max", "min"):
        ordered = [digit for digit in "0123456789" if digit in letters]
        return ordered[-1 if skill == "max" else 0]
    return str(eval(question, {}))  # digits, + and - of our own making


@given(st.sampled_from(NAMES), st.integers(0, 2**32), st.integers(0, 6))
def test_every_generated_task_is_right_and_fits(name: str, seed: int, level: int) -> None:
    skill = get_skill(name)
    difficulty = skill.difficulties[level % len(skill.difficulties)]
    task = skill.generate(np.random.default_rng(seed), difficulty)
    question = question_of(task)
    assert task.prompt == f"<{name}>{question}="
    assert task.answer == _expected(name, question)
    assert task.difficulty == difficulty == len(question.split("+")[0].split("-")[0])
    assert len(task.answer) + 1 <= skill.max_new_tokens
    assert skill.verify(task, task.answer) == 1.0


@given(st.sampled_from(NAMES), st.integers(0, 2**32), st.text("abcdefgh0123456789<>=", max_size=15))
def test_nothing_but_the_answer_is_rewarded(name: str, seed: int, text: str) -> None:
    task = get_skill(name).generate(np.random.default_rng(seed))
    assert get_skill(name).verify(task, text) == float(text == task.answer)


@pytest.mark.parametrize("name", NAMES)
def test_all_difficulties_are_drawn(name: str) -> None:
    rng = np.random.default_rng(0)
    drawn = {get_skill(name).generate(rng).difficulty for _ in range(200)}
    assert drawn == set(get_skill(name).difficulties)


def test_a_difficulty_out_of_range_is_refused() -> None:
    with pytest.raises(SkillError, match=r"'sort': difficulty 8 is outside 1..7"):
        get_skill("sort").generate(np.random.default_rng(0), 8)


def test_an_unknown_skill_is_refused_with_a_hint() -> None:
    with pytest.raises(SkillError, match="unknown skill 'revers', did you mean 'reverse'"):
        get_skill("revers")


def test_names_are_unique_and_listed() -> None:
    assert all(SKILLS[name].name == name for name in SKILLS)
    assert set(NAMES) <= set(SKILLS)


def test_skills_and_tasks_load_no_torch() -> None:
    code = "import sys, symphony_fl.learning.tasks.task_sampler; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
