"""The few-shot skills for pretrained models: right answers, strict and robust judging, enough to hold out."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from symphony_fl.learning.skills import SKILLS
from symphony_fl.learning.skills.arithmetic import ARITHMETIC, FewShotSkill
from symphony_fl.learning.skills.base import SkillError, Task
from symphony_fl.learning.tasks import TaskSampler, held_out

NAMES = ("addition", "larger", "smaller", "next_number", "first_letter", "word_problem")
seeds = st.integers(min_value=0, max_value=2**32 - 1)
every_skill = pytest.mark.parametrize("skill", ARITHMETIC, ids=lambda skill: skill.name)


def solve(task: Task) -> str:
    """The answer worked out again from the question's text alone."""
    question = [line for line in task.prompt.split("\n") if line not in ("", "A:")][-1]
    numbers = [int(number) for number in re.findall(r"\d+", question)]
    if task.skill == "first_letter":
        return question.split()[-1][0]
    if task.skill == "word_problem" and "more" not in question:
        return str(numbers[0] - numbers[1])
    how = {"addition": sum, "word_problem": sum, "larger": max, "smaller": min}
    return str(numbers[0] + 1 if task.skill == "next_number" else how[task.skill](numbers))


def test_all_are_listed() -> None:
    assert tuple(skill.name for skill in ARITHMETIC) == NAMES
    assert all(SKILLS[name].name == name for name in NAMES)


@every_skill
@given(seed=seeds)
def test_answers_are_right_and_fit(skill: FewShotSkill, seed: int) -> None:
    rng = np.random.default_rng(seed)
    for level in skill.difficulties:
        task = skill.generate(rng, level)
        assert task.answer == solve(task) and task.difficulty == level and task.skill == skill.name
        assert skill.verify(task, f" {task.answer}\n") == 1.0
        assert task.prompt == task.prompt.rstrip()  # the model's tokens begin with the space
        assert task.prompt.startswith(skill.examples)


@every_skill
@given(seed=seeds, text=st.text())
def test_any_text_is_judged(skill: FewShotSkill, seed: int, text: str) -> None:
    task = skill.generate(np.random.default_rng(seed))
    assert skill.verify(task, text) in (0.0, 1.0)


@every_skill
def test_examples_are_right(skill: FewShotSkill) -> None:
    """Each shown answer is accepted as the answer to its own question."""
    shown = re.findall(r"(?:Q: )?(.+?)(?: =|\?\nA:|\nA:|:)( .+)\n", skill.examples)
    assert len(shown) == skill.examples.count("\n") // (2 if "A:" in skill.examples else 1)
    for question, answer in shown:
        task = Task(skill.name, question, "")
        assert skill.verify(Task(skill.name, question, solve(task)), answer) == 1.0


@pytest.mark.parametrize(
    ("name", "answer", "completion", "reward"),
    [
        ("addition", "12", " 12", 1),
        ("addition", "12", "12\n13 + 4 = 17", 1),
        ("addition", "12", " 12.", 1),
        ("addition", "12", " 12 apples\n", 1),
        ("addition", "12", " 123", 0),
        ("addition", "12", " 12.5", 0),
        ("addition", "12", " 12 or 13", 0),
        ("addition", "12", " x12", 0),
        ("addition", "12", "\n12", 0),  # an empty first line is an empty answer
        ("addition", "12", " -12", 0),
        ("addition", "12", "", 0),
        ("first_letter", "m", " m", 1),
        ("first_letter", "m", " M\nQ: First", 1),
        ("first_letter", "m", ' "m"', 1),
        ("first_letter", "m", " melon", 0),
        ("first_letter", "m", " n", 0),
        ("word_problem", "9", " 4 + 5 = 9\n", 1),
        ("word_problem", "9", " 9\n", 1),
        ("word_problem", "9", " 4 + 5 = 9 apples\n", 1),
        ("word_problem", "9", " 4 + 5 = 19", 0),
        ("word_problem", "9", " 4 + 5 = 9 + 1 = 10", 0),
        ("word_problem", "9", " 9 + 5 = 14", 0),
        ("word_problem", "9", " 9 + 5", 0),
    ],
)
def test_judging(name: str, answer: str, completion: str, reward: float) -> None:
    assert SKILLS[name].verify(Task(name, "", answer), completion) == reward


def test_unknown_difficulty_is_refused() -> None:
    with pytest.raises(SkillError, match="difficulty 9"):
        SKILLS["addition"].generate(np.random.default_rng(0), 9)


def test_enough_can_be_held_out_and_the_rest_trains() -> None:
    tasks = held_out(NAMES, 30, 1234)
    prompts = {task.prompt for task in tasks}
    assert len(prompts) == 30 * len(NAMES)
    sampler = TaskSampler(NAMES, 0, frozenset(prompts))
    assert not prompts & {task.prompt for step in range(50) for task in sampler.sample(12, 0, step)}
