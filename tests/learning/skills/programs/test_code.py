"""Deduction, abduction and induction: right answers of every mode, proposals that are tasks, and those that are not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples import examples
from symphony_fl.learning.executors.python import Call, run_calls
from symphony_fl.learning.executors.python_syntax import parse_program, read_literals
from symphony_fl.learning.skills import SKILLS, ProposalError, ProposingSkill, SkillError, Task
from symphony_fl.learning.skills.programs.code import CODE, CodeSkill
from symphony_fl.learning.skills.programs.functions import (
    OPERATIONS,
    PROGRAM_CHARS,
    VALUE_CHARS,
    Example,
    canonical,
    draw_template,
    operations,
    unused_parameters,
)
from symphony_fl.learning.skills.text import question_of
from symphony_fl.learning.tasks.task_sampler import held_out

DEDUCTION, ABDUCTION, INDUCTION = CODE
LINE = Example(
    "def f(x): return 3 * x + 1", ("1", "2", "5", "7", "0", "9"), ("4", "7", "16", "22", "1", "28")
)
every_skill = pytest.mark.parametrize("skill", CODE, ids=lambda skill: skill.name)


def test_listed_and_a_proposing_skill() -> None:
    skills: tuple[ProposingSkill, ...] = CODE
    assert [SKILLS[skill.name].name for skill in skills] == [
        "code_deduction",
        "code_abduction",
        "code_induction",
    ]


@every_skill
def test_tasks_are_right_by_their_own_answers(skill: CodeSkill) -> None:
    rng = np.random.default_rng(0)
    for level in skill.difficulties:
        task = skill.generate(rng, level)
        assert skill.verify(task, f" {task.answer}\n\nf(9) = 3") == 1.0
        assert skill.verify(task, f"Sure:\n```python\n{task.answer}\n```\nThat is it.") == 1.0
        assert skill.verify(task, " 'no'") == 0.0 and skill.verify(task, "") == 0.0
        assert task.difficulty == level and task.prompt == task.prompt.rstrip()
        assert skill.generate(np.random.default_rng(7), level) == skill.generate(
            np.random.default_rng(7), level
        )


def test_templates_say_what_the_executor_says() -> None:
    """Templates are evaluated in this process; here every one of 150 drawn runs in the confined one."""
    rng = np.random.default_rng(1)
    drawn = [(level, draw_template(rng, level, 2)) for level in (1, 2, 3) for _ in range(50)]
    for level, example in drawn:
        tree = parse_program(example.program, PROGRAM_CHARS)
        assert operations(tree) in OPERATIONS[level], example.program
        assert canonical(tree) == example.program and not unused_parameters(tree)
    calls = [Call(e.program, read_literals(given, VALUE_CHARS)) for _, e in drawn for given in e.inputs]
    assert [repr(o.value) for o in run_calls(calls)] == [output for _, e in drawn for output in e.outputs]


@pytest.mark.parametrize(
    ("skill", "completion", "reward"),
    [
        (DEDUCTION, " 4", 1),
        (DEDUCTION, "4\n\ndef f(x)", 1),
        (DEDUCTION, "4.0", 0),
        (DEDUCTION, "4, 4", 0),
        (DEDUCTION, "f(1)", 0),
        (ABDUCTION, " 1", 1),
        (ABDUCTION, "f(1)", 1),
        (ABDUCTION, "2 - 1", 0),
        (ABDUCTION, "1, 1", 0),
        (INDUCTION, " def f(x): return x * 3 + 1", 1),
        (INDUCTION, "def f(y):\n    z = y + y\n    return z + y + 1", 1),
        (INDUCTION, " def f(x): return {1: 4, 2: 7, 5: 16}[x]", 0),  # knows what was shown, not the rule
        (INDUCTION, " def f(x): return 3 * x", 0),
        (INDUCTION, " import os\ndef f(x): return 3 * x + 1", 0),
        (INDUCTION, " 3 * x + 1", 0),
    ],
)
def test_judging(skill: CodeSkill, completion: str, reward: float) -> None:
    assert skill.verify(skill.task(LINE, 1), completion) == reward


def test_every_input_with_the_right_output_is_right() -> None:
    task = ABDUCTION.task(Example("def f(x): return x % 5", ("7",), ("2",)), 1)
    assert [ABDUCTION.verify(task, text) for text in ("7", "12", "8")] == [1, 1, 0]


@every_skill
@examples(30)
@given(text=st.text(max_size=50))
def test_any_completion_is_judged(skill: CodeSkill, text: str) -> None:
    assert skill.verify(skill.task(LINE, 1), text) in (0.0, 1.0)


def test_prompts() -> None:
    assert question_of(DEDUCTION.task(LINE, 1).prompt) == "def f(x): return 3 * x + 1\nf(1) ="
    assert question_of(ABDUCTION.task(LINE, 1).prompt) == "def f(x): return 3 * x + 1\nf(?) = 4\n? ="
    assert question_of(INDUCTION.task(LINE, 1).prompt) == "f(1) = 4\nf(2) = 7\nf(5) = 16\nProgram:"
    (message,) = DEDUCTION.chat(DEDUCTION.task(LINE, 1))
    assert message["role"] == "user" and message["content"].endswith("\n\ndef f(x): return 3 * x + 1\nf(1) =")


@every_skill
def test_a_proposal_read_from_an_example_is_that_task_again(skill: CodeSkill) -> None:
    rng = np.random.default_rng(3)
    for level in skill.difficulties:
        tasks = [skill.generate(rng, level) for _ in range(2)]
        prompt = skill.propose_prompt(tasks, level)
        *_, _first, second, last = prompt.split("\n")
        assert last == "Task:" and prompt.count("Task:") == 3
        again = skill.parse_proposal(f" {second.removeprefix('Task: ')}\nTask: def", level)
        assert again.origin == "proposed" and skill.verify(again, tasks[1].answer) == 1.0
        assert (again.prompt, again.difficulty) == (tasks[1].prompt, level)


def test_a_proposal_of_several_lines_and_imports() -> None:
    text = (
        "```python\nimport math\ndef f(x, y):\n    '''doc'''\n    z = math.gcd(x, y)  # why\n\n"
        "    return [z] * y\n# f(4, 2)\n```"
    )
    task = DEDUCTION.parse_proposal(text, 1)
    assert question_of(task.prompt) == (
        "import math\ndef f(x, y):\n    z = math.gcd(x, y)\n    return [z] * y\nf(4, 2) ="
    )
    assert task.answer == "[2, 2]"


@pytest.mark.parametrize(
    ("skill", "text", "reason"),
    [
        (DEDUCTION, "", "unparsable"),
        (DEDUCTION, "def f(x): return x + 1", "unparsable"),
        (DEDUCTION, "def f(x) return x + 1  # f(3)", "unparsable"),
        (DEDUCTION, "def g(x): return x + 1  # f(3)", "unparsable"),
        (DEDUCTION, "def f(x): return x + 1  # f(3", "unparsable"),
        (DEDUCTION, "def f(x): return x + 1  # f(y)", "unparsable"),
        (DEDUCTION, "def f(x): return x + 1  # f()", "unparsable"),
        (DEDUCTION, "def f(x): return f'''a\n# f(b{x + 1}'''  # f(3)", "unparsable"),
        (DEDUCTION, "def f(x): return x + 1  # f({1, 2})", "refused"),
        (DEDUCTION, "import os\ndef f(x): return os.fork()  # f(3)", "refused"),
        (DEDUCTION, "def f(x): return x.__class__ + 1  # f(3)", "refused"),
        (DEDUCTION, f"def f(x): return {'x + ' * 200} 1  # f(3)", "too_long"),
        (DEDUCTION, f"def f(x): return x + 1  # f('{'a' * 70}')", "too_long"),
        (DEDUCTION, "def f(x): return 'a' * x  # f(99)", "too_long"),
        (DEDUCTION, "def f(x): return x  # f(3)", "out_of_bounds"),
        (DEDUCTION, "def f(x): return x + 1 + 2 * x - 4 * 5  # f(3)", "out_of_bounds"),
        (DEDUCTION, "def f(x): return x + 1  # f(3), f(4)", "out_of_bounds"),
        (DEDUCTION, "def f(x): return x / 0  # f(3)", "executor"),
        (DEDUCTION, "def f(x): return f(x)  # f(3)", "executor"),
        (DEDUCTION, "def f(x):\n    while x: pass  # f(3)", "executor"),
        (DEDUCTION, "def f(x): return str(set(x))  # f('abcdefgh')", "non_deterministic"),
        (DEDUCTION, "def f(x): return 1 + 1  # f(3)", "trivial"),
        (INDUCTION, "def f(x): return x * 0  # f(1), f(2), f(3), f(4), f(5), f(6)", "trivial"),
        (INDUCTION, "def f(x): return x * 2  # f(1), f(2), f(3), f(4), f(5), f(5)", "out_of_bounds"),
    ],
)
def test_proposals_that_are_no_tasks(skill: CodeSkill, text: str, reason: str) -> None:
    with pytest.raises(ProposalError) as refused:
        skill.parse_proposal(text, 1)
    assert refused.value.reason == reason


@examples(150)
@given(
    st.text(max_size=60)
    | st.lists(st.sampled_from("def f(x): return|x|+ 1|# f(|3|)|\n|'a'|,|[|]|Task:|```".split("|"))).map(
        " ".join
    )
)
def test_any_proposal_is_a_task_or_refused(text: str) -> None:
    for skill in CODE:
        try:
            task = skill.parse_proposal(text, 1)
        except ProposalError:
            continue
        assert skill.verify(task, task.answer) == 1.0


def test_difficulties_and_examples_of_others_are_refused() -> None:
    with pytest.raises(SkillError, match="difficulty 4 is outside 1..3"):
        DEDUCTION.propose_prompt([], 4)
    with pytest.raises(SkillError, match="difficulty 0 is outside 1..3"):
        DEDUCTION.parse_proposal("", 0)
    with pytest.raises(SkillError, match="example of skill 'add'"):
        DEDUCTION.propose_prompt([Task("add", "", "")], 1)


def test_enough_can_be_held_out() -> None:
    assert len(held_out([skill.name for skill in CODE], 30, 5)) == 90
