"""Short answers: passages hold what is asked, accepted answers all count, proposals must be supported."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from symphony_fl.learning.skills import ProposalError, Task
from symphony_fl.learning.skills.datasets.loaders import SHIPPED
from symphony_fl.learning.skills.datasets.multihop import MULTIHOP
from symphony_fl.learning.skills.datasets.openqa import OPENQA, READING_FORM
from symphony_fl.learning.skills.datasets.world import read_facts
from symphony_fl.learning.skills.metrics import normalise_answer
from symphony_fl.learning.tasks.task_sampler import held_out

NQ, READING = OPENQA
PASSAGE = "The mill was built in 1801. It burned down in 1850. A school stands there today."
GOOD = f"{PASSAGE}\nQ: When did the mill burn down?\nA: 1850"


@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 2, 3]))
def test_the_passage_tells_what_is_asked_and_nothing_else_does(seed: int, level: int) -> None:
    task = READING.generate(np.random.default_rng(seed), level)
    passage, question = READING_FORM.question(task.prompt).removeprefix("Passage: ").split("\nQ: ")
    facts = read_facts(passage)
    assert len(facts) == 3 * level and task.difficulty == level
    answers = [fact.object for fact in facts if fact.relation.who.format(s=fact.subject) == question]
    assert answers == [task.answer] and task.answer not in question
    assert READING.verify(task, f" {task.answer}.\nmore") == 1.0
    assert READING.verify(task, facts[0].subject + "x") == 0.0


def test_the_forms_examples_are_answered_by_their_passages() -> None:
    for question, answer in READING_FORM.examples:
        assert READING.parse_proposal(f"{question}\nA: {answer}", 1).answer == answer


def test_every_accepted_answer_counts() -> None:
    task = Task("nq", NQ.form.prompt("Q: who wrote hamlet?"), "William Shakespeare\nShakespeare")
    assert [
        NQ.verify(task, text) for text in (" shakespeare.", "William Shakespeare\nQ: x", "Bacon", "")
    ] == [1, 1, 0, 0]


def test_shipped_rows_are_asked_closed_book() -> None:
    rows = [
        json.loads(line) for line in (SHIPPED / "nq_open" / "train.jsonl").read_text("utf-8").splitlines()
    ]
    shown = {question for question, _ in NQ.form.examples}
    assert len(rows) >= 30 and len({row["question"] for row in rows}) == len(rows)
    rng = np.random.default_rng(0)
    drawn = {task.prompt: task for task in (NQ.generate(rng) for _ in range(1000))}
    expected = {NQ.form.prompt(f"Q: {row['question']}?"): row["answer"] for row in rows}
    assert {prompt: task.answer.split("\n") for prompt, task in drawn.items()} == expected
    assert not shown & {NQ.form.question(prompt) for prompt in drawn}
    assert len(held_out(["nq"], 4, 0)) == 4


@pytest.mark.parametrize("skill", [*OPENQA, MULTIHOP[0]], ids=lambda skill: skill.name)
def test_a_proposal_is_a_reading_task(skill) -> None:
    task = skill.parse_proposal(GOOD, 1)
    assert (task.skill, task.answer, task.origin) == (skill.name, "1850", "proposed")
    assert skill.form.question(task.prompt) == f"Passage: {GOOD.rpartition(chr(10))[0]}"
    assert skill.verify(task, " 1850\n") == 1.0
    assert skill.propose_prompt([task], 1).endswith(f"Passage: {GOOD}\n\nPassage:")


@pytest.mark.parametrize(
    ("text", "difficulty", "reason"),
    [
        (GOOD, 2, "short passage: 3 sentences, difficulty 2 needs 6"),
        (GOOD.replace("A: 1850", "A: 1851"), 1, "unsupported answer: '1851'"),
        (GOOD.replace("A: 1850", "A: 185"), 1, "unsupported answer"),  # whole words only
        (GOOD.replace("A: 1850", "A: the"), 1, "bad answer"),
        (GOOD.replace("A: 1850", f"A: {PASSAGE}"), 1, "bad answer"),
        (GOOD.replace("A: 1850", "A: the mill"), 1, "given answer"),
        (GOOD.replace("?", "."), 1, "bad question"),
        (GOOD.replace("Q: ", "Question: "), 1, "missing line: expected 'Q'"),
        (f"{'word ' * 300}\nQ: When was it done?\nA: word", 1, "short passage: 0 sentences"),
        (PASSAGE, 1, "missing line: 1 lines, expected Passage, Q, A"),
    ],
)
def test_bad_proposals_are_refused(text: str, difficulty: int, reason: str) -> None:
    with pytest.raises(ProposalError, match=reason):
        READING.parse_proposal(text, difficulty)


def test_any_proposal_is_read_or_refused() -> None:
    outcomes: Counter[str] = Counter()

    @given(
        st.text()
        | st.lists(st.sampled_from([*GOOD.split(" "), "\nQ:", "\nA:", "?", "."]), max_size=60).map(" ".join)
    )
    @example(GOOD)
    def read(text: str) -> None:
        try:
            task = READING.parse_proposal(text, 1)
        except ProposalError:
            outcomes["refused"] += 1
            return
        outcomes["read"] += 1
        assert normalise_answer(task.answer) in normalise_answer(task.prompt)

    read()
    assert outcomes["read"] and outcomes["refused"]
