"""Word problems: the shipped rows are right, generated ones are of their difficulty, proposals are evaluated."""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from fractions import Fraction
from importlib.util import find_spec

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from examples import examples
from symphony_fl.learning.skills import ProposalError, SkillError, Task
from symphony_fl.learning.skills.datasets.gsm import FORM, GSM, ExpressionProposals, level_of, score
from symphony_fl.learning.skills.datasets.loaders import SHIPPED
from symphony_fl.learning.skills.expressions import evaluate
from symphony_fl.learning.skills.questions import QuestionSkill
from symphony_fl.learning.tasks.task_sampler import TaskSampler, held_out

seeds = st.integers(0, 2**32 - 1)
GENERATED = GSM[1]
GOOD = "Tom has 15 apples and buys 4 bags of 13. How many apples has he now?\nE: 15 + 4 * 13"


def test_every_step_of_the_shipped_solutions_is_right() -> None:
    rows = [json.loads(line) for line in (SHIPPED / "gsm8k" / "train.jsonl").read_text("utf-8").splitlines()]
    assert len(rows) >= 30
    for row in rows:
        steps = re.findall(r"([^ $]+)=<<(.+)=(.+)>>([\d.]*\d)", row["answer"])
        assert len(steps) == row["answer"].count("<<")
        for said, expression, value, shown in steps:
            assert said == expression and value == shown and evaluate(expression)[0] == Fraction(value)
        assert row["answer"].endswith(f"\n#### {steps[-1][2]}")


@pytest.mark.skipif(find_spec("reasoning_gym") is None, reason="pip install '.[gsm]'")
@examples(25)
@given(seeds)
def test_generated_problems(seed: int) -> None:
    for level in GENERATED.difficulties:
        task = GENERATED.generate(np.random.default_rng(seed), level)
        assert task == GENERATED.generate(np.random.default_rng(seed), level)
        assert re.fullmatch(r"-?\d+", task.answer) and task.difficulty == level
        assert "Give the result" not in task.prompt and task.prompt.endswith("\nA:")
        assert GENERATED.verify(task, f" so it is\n#### {task.answer}\n\nQ: more\n#### 1") == 1.0


def test_without_reasoning_gym_the_skill_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "reasoning_gym", None)
    with pytest.raises(SkillError, match=r"pip install '.\[gsm\]'"):
        GENERATED.generate(np.random.default_rng(0), 1)


@pytest.mark.parametrize(
    ("completion", "reward"),
    [
        (" 3 * 4 = 12\n#### 17", 1),
        ("#### $17.00", 1),
        (" 17", 1),
        (" 17.\n\nQ: How", 1),
        ("#### 1,7", 1),  # separators are dropped wherever they are, as published
        (" 17 apples", 0),
        ("#### 18", 0),
        ("#### 16.999", 0),
        ("12\n#### 17", 0),  # the first line is already an answer
        ("no number\n\nQ: next\nA: 1\n#### 17", 0),
        ("", 0),
    ],
)
def test_judging(completion: str, reward: float) -> None:
    assert score(completion, ["17"]) == reward


@given(st.text() | st.text("#0123456789.,$- \n", max_size=30))
def test_any_completion_is_judged(text: str) -> None:
    assert score(text, ["17"]) in (0.0, 1.0)


def test_examples_of_the_form_are_right() -> None:
    assert [score(answer, [gold]) for (_, answer), gold in zip(FORM.examples, ("17", "8"), strict=True)] == [
        1,
        1,
    ]


def test_levels_are_steps() -> None:
    assert [level_of(steps) for steps in range(1, 9)] == [1, 1, 2, 3, 3, 3, 3, 3]


def test_a_few_rows_are_held_out_and_never_trained_on() -> None:
    held = held_out(["gsm8k"], 5, 0)
    trained = TaskSampler(["gsm8k"], 0).sample(300, 0, 0)
    assert not {task.prompt for task in held} & {task.prompt for task in trained}
    with pytest.raises(SkillError, match="ask for fewer"):
        held_out(["gsm8k"], 30, 0)


@pytest.mark.parametrize("skill", GSM, ids=lambda skill: skill.name)
def test_a_proposal_is_answered_by_its_expression(skill: QuestionSkill) -> None:
    task = skill.parse_proposal(GOOD, 1)
    assert (task.skill, task.answer, task.difficulty, task.origin) == (skill.name, "67", 1, "proposed")
    assert task.prompt == FORM.prompt("Q: " + GOOD.split("\n")[0])
    assert task == skill.parse_proposal(f"Q: {GOOD} = 70\n\nQ: another", 1)
    assert skill.chat(task)[1] == {"role": "user", "content": GOOD.split("\n")[0]}


@pytest.mark.parametrize(
    ("text", "difficulty", "reason"),
    [
        (GOOD, 2, "other difficulty: 2 operations"),
        ("Tom has 15 apples. How many?\nE: 15", 1, "other difficulty: 0 operations"),
        ("Tom has 15 apples. How many?\nE: 15 / 2", 1, "bad answer: 15/2"),
        ("Tom has 15 apples. How many?\nE: 10 - 15", 1, "bad answer: -5"),
        ("Tom has 15 apples. How many?\nE: 15 + 77", 1, "unrelated expression"),
        ("Tom has some apples. How many?\nE: 2 + 3", 1, "unrelated expression"),
        ("Tom has 15 apples\nE: 15 + 1", 1, "bad question"),
        ("Tom has 15 apples. How many?\nA: 15", 1, "missing line"),
        ("Tom has 15 apples. How many?", 1, "missing line"),
        ("Tom has 15 apples. How many?\nE:", 1, "empty line"),
        ("Tom has 15 apples. How many?\nE: fifteen", 1, "bad expression"),
        ("x" * 3000, 1, "long proposal"),
        ("", 1, "missing line"),
    ],
)
def test_bad_proposals_are_refused(text: str, difficulty: int, reason: str) -> None:
    with pytest.raises(ProposalError, match=reason):
        GENERATED.parse_proposal(text, difficulty)


def test_any_proposal_is_read_or_refused() -> None:
    outcomes: Counter[str] = Counter()

    @given(st.text() | st.text("QE:0123456789+*/ ?\n", max_size=60))
    @example("Tom has 15 apples and 3 pears. How many?\nE: 15 + 3")
    def read(text: str) -> None:
        try:
            task = GSM[0].parse_proposal(text, 1)
        except ProposalError:
            outcomes["refused"] += 1
            return
        outcomes["read"] += 1
        assert int(task.answer) >= 0

    read()
    assert outcomes["read"] and outcomes["refused"]


def test_the_shots_are_themselves_proposals() -> None:
    for question, expression, operations in ExpressionProposals.shots:
        task = GSM[0].parse_proposal(f"{question}\nE: {expression}", level_of(operations))
        assert Fraction(task.answer) == evaluate(expression)[0]


def test_the_prompt_shows_the_form_and_the_examples() -> None:
    task = GSM[0].generate(np.random.default_rng(0), 2)
    prompt = GSM[0].propose_prompt([task], 2)
    assert FORM.question(task.prompt).removeprefix("Q: ") in prompt and prompt.endswith("\nQ:")
    assert prompt.count("\nE: ") == 2
    with pytest.raises(SkillError, match="'gsm8k': difficulty 4 is outside 1..3"):
        GSM[0].propose_prompt([], 4)
    with pytest.raises(SkillError, match="prompt of another form"):
        GSM[0].propose_prompt([Task("sort", "<sort>cab=", "abc")], 1)
