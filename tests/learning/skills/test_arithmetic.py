"""The few-shot skills for pretrained models: right answers, strict and robust judging, enough to hold out."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from symphony_fl.learning.skills import SKILLS
from symphony_fl.learning.skills.arithmetic import ARITHMETIC
from symphony_fl.learning.skills.base import ProposalError, SkillError, Task, TeachableSkill
from symphony_fl.learning.skills.few_shot import LONGEST, FewShotSkill
from symphony_fl.learning.tasks.task_sampler import TaskSampler, held_out

NAMES = ("addition", "larger", "smaller", "next_number", "first_letter", "word_problem")
seeds = st.integers(min_value=0, max_value=2**32 - 1)
every_skill = pytest.mark.parametrize("skill", ARITHMETIC, ids=lambda skill: skill.name)


def solve(task: Task) -> str:
    """The answer worked out again from the question's text alone."""
    question = [line for line in task.prompt.split("\n") if line not in ("", "A:")][-1]
    numbers = [int(number) for number in re.findall(r"\d+", question)]
    if task.skill == "first_letter":
        return question.split()[-1][0]
    if task.skill == "word_problem" and re.search(" (loses|sells|drops|eats) ", question):
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


@every_skill
@given(seed=seeds)
def test_every_generated_question_can_be_proposed_and_read_back(skill: FewShotSkill, seed: int) -> None:
    assert isinstance(skill, TeachableSkill)
    task = skill.generate(np.random.default_rng(seed))
    read = skill.parse_proposal(f"{skill.proposal_of(task)}\nand more", task.difficulty)
    assert read == replace(task, origin="proposed")


@every_skill
@given(seed=seeds)
def test_a_generated_question_is_of_one_difficulty(skill: FewShotSkill, seed: int) -> None:
    task = skill.generate(np.random.default_rng(seed))
    for level in set(skill.difficulties) - {task.difficulty}:
        with pytest.raises(ProposalError) as refused:
            skill.parse_proposal(skill.proposal_of(task), level)
        assert refused.value.reason == "out_of_bounds"


@every_skill
@given(text=st.text())
def test_any_text_is_read_or_refused(skill: FewShotSkill, text: str) -> None:
    for level in skill.difficulties:
        try:
            _check_read(skill, skill.parse_proposal(text, level), level)
        except ProposalError:
            pass


FORMS = {
    "addition": r"[0-9]{1,3} \+ [0-9]{1,3}",
    "larger": r"[0-9]{1,3} or [0-9]{1,3}\?",
    "smaller": r"[0-9]{1,3} or [0-9]{1,3}\?",
    "next_number": r"[0-9]{1,4}\?",
    "first_letter": r"[a-z]{1,8}",
    "word_problem": r"(Kim|Zoe) has [0-9]{1,2} (figs|tin boxes) and (buys|wins|eats|loses) [0-9]{1,2}( more)?",
}


@every_skill
@given(data=st.data())
def test_what_is_read_is_answered_rightly(skill: FewShotSkill, data: st.DataObject) -> None:
    """Texts near the form: each is of at most one difficulty, and its answer that of an independent computation."""
    text = data.draw(st.from_regex(FORMS[skill.name], fullmatch=True))
    read = []
    for level in skill.difficulties:
        try:
            task = skill.parse_proposal(text, level)
        except ProposalError:
            continue
        _check_read(skill, task, level)
        assert skill.proposal_of(task).strip() == text
        read.append(level)
    assert len(read) <= 1


def _check_read(skill: FewShotSkill, task: Task, level: int) -> None:
    assert (task.skill, task.difficulty, task.origin) == (skill.name, level, "proposed")
    assert task.prompt.startswith(skill.examples) and task.answer == solve(task)
    assert skill.verify(task, f" {task.answer}\n") == 1.0


@pytest.mark.parametrize(
    ("name", "level", "text", "reason"),
    [
        ("addition", 1, " 12 + 5 = 17", "unparsable"),
        ("addition", 1, "\n12 + 5", "unparsable"),
        ("addition", 1, " 012 + 5", "unparsable"),
        ("addition", 1, " \u0661\u0662 + 5", "unparsable"),  # digits, but not ASCII's
        ("addition", 2, " 12 + 5", "out_of_bounds"),
        ("addition", 2, " 1" + " " * LONGEST + "+" + "2" * LONGEST, "too_long"),
        ("larger", 2, " 25 or 25?", "trivial"),
        ("larger", 2, " 25 or 125?", "out_of_bounds"),
        ("smaller", 1, " 3 or 4", "unparsable"),
        ("next_number", 1, " 123?", "out_of_bounds"),
        ("first_letter", 4, " Tilo", "unparsable"),
        ("first_letter", 4, " tilom", "out_of_bounds"),
        ("word_problem", 1, " Tom has 5 apples and sells 4 more", "unparsable"),
        ("word_problem", 1, " Tom has 5 apples and paints 4", "unparsable"),
        ("word_problem", 1, " Tom has 5 apples and sells 4", "out_of_bounds"),
        ("word_problem", 2, " Tom has 5 apples and sells 6", "out_of_bounds"),
    ],
)
def test_refusals_are_named(name: str, level: int, text: str, reason: str) -> None:
    with pytest.raises(ProposalError) as refused:
        SKILLS[name].parse_proposal(text, level)  # type: ignore[attr-defined]
    assert refused.value.reason == reason


@every_skill
def test_shots_are_proposals_of_their_difficulty(skill: FewShotSkill) -> None:
    assert set(skill.shots) == set(skill.difficulties)
    for level, shots in skill.shots.items():
        assert len(set(shots.questions)) == len(shots.questions) >= 8
        for question in shots.questions:
            assert skill.parse_proposal(question, level).difficulty == level


@every_skill
def test_a_proposer_sees_known_questions_of_the_difficulty_before_the_last_shot(skill: FewShotSkill) -> None:
    rng = np.random.default_rng(0)
    known = [skill.generate(rng, level) for level in skill.difficulties]
    for task in known:
        shots = skill.shots[task.difficulty]
        lines = skill.propose_prompt(known, task.difficulty).split("\n")
        asked = [*shots.questions[:-1], skill.proposal_of(task).strip(), shots.questions[-1]]
        assert lines == [*(f"{shots.lead} {question}" for question in asked), shots.lead]
        assert "A:" not in lines and "=" not in "".join(lines)  # no answers


def test_proposals_are_asked_for_known_skills_and_difficulties_only() -> None:
    first, second = ARITHMETIC[:2]
    task = second.generate(np.random.default_rng(0))
    with pytest.raises(SkillError, match="'addition'.*task of another skill"):
        first.propose_prompt([task], 1)
    with pytest.raises(SkillError, match="'addition': difficulty 4 is outside 1..3"):
        first.propose_prompt([], 4)
    with pytest.raises(SkillError, match="difficulty 0 is outside"):
        first.parse_proposal("12 + 5", 0)


def test_as_messages() -> None:
    larger = ARITHMETIC[1]
    task = larger.parse_proposal(" 31 or 47?", 2)
    assert larger.chat(task) == [
        {"role": "user", "content": "Answer with the number alone.\n\nWhich is larger, 31 or 47?"}
    ]
