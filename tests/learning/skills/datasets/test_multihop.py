"""Several facts per answer: worlds are resolvable and ambiguous in nothing, proposals are followed or refused."""

from __future__ import annotations

import itertools
import json
from collections import Counter

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from symphony_fl.learning.skills import ProposalError
from symphony_fl.learning.skills.datasets.loaders import SHIPPED
from symphony_fl.learning.skills.datasets.multihop import MULTIHOP, WORLD_FORM
from symphony_fl.learning.skills.datasets.world import (
    RELATIONS,
    ask,
    draw_chain,
    read_facts,
    read_question,
    resolve,
)
from symphony_fl.learning.skills.metrics import normalise_answer
from symphony_fl.learning.tasks.task_sampler import TaskSampler, held_out

seeds = st.integers(0, 2**32 - 1)
HOTPOT, WORLD = MULTIHOP
FACTS = "Mona works for Pelix. Sulburg lies in Doriland. Tilo works for Varex. Pelix is based in Sulburg."
GOOD = f"{FACTS}\nQ: What is the seat of the employer of Mona?"


def _follow(facts: str, question: str) -> str:
    """The answer by brute force: rewrites the innermost "the X of Y" by a look-up until a name is left."""
    how = {
        "employer": "{s} works for {o}",
        "best friend": "{o} is the best friend of {s}",
        "home town": "{s} lives in {o}",
        "seat": "{s} is based in {o}",
        "head": "{s} is led by {o}",
        "country": "{s} lies in {o}",
        "mayor": "{o} is the mayor of {s}",
        "language": "The people of {s} speak {o}",
    }
    rest = question.split(" is ", 1)[1].rstrip("?")
    names = {word.strip(".") for word in facts.split()}
    while " of " in rest:
        outer, _, name = rest.rpartition(" of ")
        outer, _, relation = outer.rpartition("the ")
        (rest,) = (o for o in names if how[relation].format(s=name, o=o) + "." in facts)
        rest = outer + rest
    return rest


@given(seeds, st.sampled_from([1, 2, 3]))
def test_generated_questions_have_one_answer_that_takes_all_hops(seed: int, hops: int) -> None:
    task = WORLD.generate(np.random.default_rng(seed), hops)
    told, question = WORLD_FORM.question(task.prompt).split("\nQ: ")
    facts = read_facts(told.removeprefix("Facts: "))
    chain, start = read_question(question)
    assert len(chain) == hops and 2 * hops <= len(facts) <= 2 * hops + 2
    assert resolve(facts, chain, start) == task.answer == _follow(told, question)
    rivals = [fact.object for fact in facts if fact.relation == chain[-1]]
    assert task.answer in rivals and len(rivals) >= 2  # the last relation alone does not give it away
    assert task.answer not in question
    assert WORLD.verify(task, f" {task.answer.lower()}.\nFacts:") == 1.0
    assert WORLD.verify(task, rivals[rivals[0] == task.answer]) == 0.0


@given(seeds, st.sampled_from([1, 2, 3]))
def test_what_is_asked_is_read_back(seed: int, hops: int) -> None:
    chain = draw_chain(np.random.default_rng(seed), hops)
    assert read_question(ask(chain, "New Lyra")) == (chain, "New Lyra")
    assert all(one.object == next_.subject for one, next_ in itertools.pairwise(chain))


def test_a_sentence_is_of_one_relation_only() -> None:
    for relation in RELATIONS:
        sentence = relation.sentence.format(s="Tilo", o="Mona Lisi")
        assert [other for other in RELATIONS if other.read(sentence)] == [relation]
        assert relation.read(sentence) == ("Tilo", "Mona Lisi")


def test_a_proposal_is_answered_by_its_chain() -> None:
    task = WORLD.parse_proposal(GOOD, 2)
    assert (task.answer, task.difficulty, task.origin) == ("Sulburg", 2, "proposed")
    assert task.prompt == WORLD_FORM.prompt(f"Facts: {GOOD}")
    country = GOOD.replace("seat of", "country of the seat of")
    assert WORLD.parse_proposal(f"Facts: {country}\n\nFacts:", 3).answer == "Doriland"


@pytest.mark.parametrize(
    ("text", "difficulty", "reason"),
    [
        (GOOD, 1, "other difficulty: 2 hops"),
        (GOOD.replace("Mona?", "Anka?"), 2, "unresolved question: no fact tells the employer of Anka"),
        (
            GOOD.replace("Pelix is based in Sulburg.", ""),
            2,
            "unresolved question: no fact tells the seat of Pelix",
        ),
        (GOOD.replace("seat", "price"), 2, "unknown relation: 'price'"),
        (GOOD.replace("What is the", "Where is the"), 2, "unreadable question"),
        (GOOD.replace("lies in", "is far from"), 2, "unreadable fact: 'Sulburg is far from Doriland'"),
        (GOOD.replace("Tilo works", "Mona works"), 2, "contradicting facts"),
        (
            "Mona works for Pelix. Pelix is based in Sul.\nQ: What is the seat of the employer of Mona?",
            2,
            "no distractor",
        ),
        (
            "Ann lives in Bo. Jo is the best friend of Ann. Ann is the best friend of Jo.\n"
            "Q: Who is the best friend of the best friend of Ann?",
            2,
            "circular question: Ann - Jo - Ann",
        ),
        ("A lives in B. " * 30 + "\nQ: What is the home town of A?", 1, "bad facts: 30 sentences"),
        (FACTS, 2, "missing line"),
        (f"{FACTS}\nQ: What is {'the a of ' * 150}?", 2, "unreadable question"),  # and soon
    ],
)
def test_bad_proposals_are_refused(text: str, difficulty: int, reason: str) -> None:
    with pytest.raises(ProposalError, match=reason):
        WORLD.parse_proposal(text, difficulty)


def test_any_proposal_is_read_or_refused() -> None:
    outcomes: Counter[str] = Counter()

    @given(
        st.text()
        | st.lists(st.sampled_from([*GOOD.split(" "), "\nQ:", "\n", "."]), max_size=40).map(" ".join)
    )
    @example(GOOD)
    def read(text: str) -> None:
        try:
            task = WORLD.parse_proposal(text, 2)
        except ProposalError:
            outcomes["refused"] += 1
            return
        outcomes["read"] += 1
        assert task.answer in text

    read()
    assert outcomes["read"] and outcomes["refused"]


@pytest.mark.parametrize("hops", [1, 2, 3])
def test_the_proposers_prompt_shows_questions_of_its_difficulty(hops: int) -> None:
    tasks = [WORLD.generate(np.random.default_rng(seed), hops) for seed in range(2)]
    shown = [part for part in WORLD.propose_prompt(tasks, hops).split("\n\n") if part.startswith("Facts: ")]
    assert len(shown) == 3 and all(WORLD_FORM.question(task.prompt) in shown for task in tasks)
    assert all(WORLD.parse_proposal(part, hops).origin == "proposed" for part in shown)
    assert WORLD.propose_prompt(tasks, hops).endswith("\n\nFacts:")


def test_shipped_hotpotqa_rows_hold_together() -> None:
    rows = [
        json.loads(line) for line in (SHIPPED / "hotpotqa" / "train.jsonl").read_text("utf-8").splitlines()
    ]
    assert len(rows) >= 30 and len({row["id"] for row in rows}) == len(rows)
    for row in rows:
        context = dict(zip(row["context"]["title"], row["context"]["sentences"], strict=True))
        support = zip(row["supporting_facts"]["title"], row["supporting_facts"]["sent_id"], strict=True)
        told = normalise_answer(
            " ".join(f"{title} {context[title][sentence]}" for title, sentence in support)
        )
        assert row["answer"] in ("yes", "no") or normalise_answer(row["answer"]) in told
        assert len(context) > len(set(row["supporting_facts"]["title"]))  # distractors


def test_hotpotqa_tasks_show_all_paragraphs() -> None:
    rng = np.random.default_rng(0)
    for level in HOTPOT.difficulties:
        task = HOTPOT.generate(rng, level)
        question = HOTPOT.form.question(task.prompt)
        assert question.startswith("Passage: [") and question.count("[") == 5 and task.difficulty == level
        assert HOTPOT.verify(task, f" {task.answer}\n") == 1.0
        assert HOTPOT.chat(task)[1]["content"] == question


def test_few_rows_are_held_out_and_many_worlds() -> None:
    assert len(held_out(["hotpotqa"], 3, 0)) == 3
    held = {task.prompt for task in held_out(["multihop"], 50, 0)}
    assert len(held) == 50 and not held & {
        task.prompt for task in TaskSampler(["multihop"], 0).sample(200, 0, 0)
    }
