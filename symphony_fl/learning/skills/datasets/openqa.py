"""Questions with short answers: Natural Questions' rows asked closed-book, and passages about a made-up world.

    nq       Kwiatkowski et al., TACL 2019, in the open form of Lee et al., arXiv 1906.00300: no passage, some accepted
             answers; rows by ``loaders``
    openqa   reading comprehension: one fact out of three sentences per level, asked in words other than the passage's

Judged by exact match of the first line after SQuAD's normalisation, as published.
A proposal is a passage, a question and an answer that stands in the passage; for nq too, since what a model
asks out of its own head nobody here could check.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from symphony_fl.learning.skills.datasets.loaders import Row
from symphony_fl.learning.skills.datasets.rows import shipped
from symphony_fl.learning.skills.datasets.world import Names, draw_chain, follow, tell
from symphony_fl.learning.skills.metrics import exact_match, first_line
from symphony_fl.learning.skills.proposals import SENTENCES_PER_LEVEL, ReadingProposals
from symphony_fl.learning.skills.questions import Form, QuestionSkill

_HARDEST = 3

READING_FORM = Form(
    instruction="Answer the question from the passage. Reply with the name alone.",
    examples=(
        (
            "Passage: Anka lives in Rodelburg. Tilo works for Varex. Mona is the best friend of Anka.\n"
            "Q: Who does Tilo work for?",
            "Varex",
        ),
        (
            "Passage: Sulburg lies in Doriland. Pelix is led by Bruno. Varex is led by Mona.\nQ: Who leads Pelix?",
            "Bruno",
        ),
    ),
)

NQ_FORM = Form(
    instruction="Answer the question. Reply with the shortest answer alone: a name, a date, a number.",
    examples=(
        ("Q: what is the largest planet of the solar system?", "Jupiter"),
        ("Q: who painted the mona lisa?", "Leonardo da Vinci"),
        ("Q: how many strings does a violin have?", "four"),
    ),
)


def score(completion: str, answers: Sequence[str]) -> float:
    """Exact match of the first line with one of the accepted answers."""
    return exact_match(first_line(completion), answers)


def draw_passage(rng: np.random.Generator, difficulty: int) -> tuple[str, str]:
    """(question, answer) about one fact of a new passage."""
    names = Names(rng)
    facts = [follow(names, draw_chain(rng, hops=1))[0] for _ in range(SENTENCES_PER_LEVEL * difficulty)]
    asked = facts[0]  # the passage is shuffled
    return f"Passage: {tell(rng, facts)}\nQ: {asked.relation.who.format(s=asked.subject)}", asked.object


def read_nq(row: Row) -> tuple[str, str, int]:
    """A row's (question, accepted answers one a line, 1): the rows say nothing of difficulty."""
    question = " ".join(row["question"].split()).rstrip("? ")
    return f"Q: {question}?", "\n".join(" ".join(answer.split()) for answer in row["answer"]), 1


OPENQA: tuple[QuestionSkill, ...] = (
    QuestionSkill(
        "nq", NQ_FORM, shipped("nq_open", read_nq), score, ReadingProposals(), range(1, 2), max_new_tokens=32
    ),
    QuestionSkill(
        "openqa",
        READING_FORM,
        draw_passage,
        score,
        ReadingProposals(),
        range(1, _HARDEST + 1),
        max_new_tokens=16,
    ),
)
