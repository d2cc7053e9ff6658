"""Questions whose answer takes several facts: HotpotQA's rows, and chains through a made-up world.

    hotpotqa   Yang et al., arXiv 1809.09600; rows by ``loaders``; difficulty: easy, medium, hard; all paragraphs shown
    multihop   difficulty: hops, 1-3

A made-up task has the facts of the chain, a second chain of the same relations from another start, and up to
two more facts about either, so neither a relation's name nor a place in the text gives the answer away. Judged by exact
match of the first line after SQuAD's normalisation. A proposal in the world's sentences is answered by following its
chain; nothing but these sentences is read:

    Facts: Tilo works for Varex. Mona works for Pelix. Varex is based in Nolburg.
    Q: What is the seat of the employer of Tilo?
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from symphony_fl.learning.skills.base import ProposalError
from symphony_fl.learning.skills.datasets.loaders import Row
from symphony_fl.learning.skills.datasets.rows import shipped
from symphony_fl.learning.skills.datasets.world import (
    Names,
    ask,
    draw_chain,
    follow,
    more_facts,
    read_facts,
    read_question,
    resolve,
    tell,
)
from symphony_fl.learning.skills.metrics import exact_match, first_line
from symphony_fl.learning.skills.proposals import ReadingProposals, read_fields
from symphony_fl.learning.skills.questions import Form, QuestionSkill

_LEVELS = range(1, 4)
_BESIDES = 2  # fewer where nothing more can be told, as of countries
_HOTPOT_LEVELS = {"easy": 1, "medium": 2, "hard": 3}

WORLD_FORM = Form(
    instruction="Answer the question from the facts. Reply with the name alone.",
    examples=(
        (
            "Facts: Anka lives in Rodelburg. Tilo lives in Marlburg. Rodelburg lies in Tofiland.\n"
            "Q: What is the home town of Tilo?",
            "Marlburg",
        ),
        (
            "Facts: Varex is based in Nolburg. Mona works for Pelix. Tilo works for Varex. Pelix is based in Sulburg.\n"
            "Q: What is the seat of the employer of Mona?",
            "Sulburg",
        ),
    ),
)

HOTPOT_FORM = Form(
    instruction="Answer the question from the passage. Reply with the shortest answer: a name, a date, yes or no.",
    examples=(
        (
            "Passage: [Elbe] The Elbe is a river that flows into the North Sea. "
            "[Dresden] Dresden is a city in Saxony. It lies on the Elbe.\n"
            "Q: Into which sea flows the river on which Dresden lies?",
            "North Sea",
        ),
        (
            "Passage: [Oslo] Oslo is the capital of Norway. [Bergen] Bergen is a port in Norway.\n"
            "Q: Are Oslo and Bergen in the same country?",
            "yes",
        ),
    ),
)


def score(completion: str, answers: Sequence[str]) -> float:
    """Exact match of the first line."""
    return exact_match(first_line(completion), answers)


def draw_world(rng: np.random.Generator, hops: int) -> tuple[str, str]:
    """(question, answer) about a new world."""
    names = Names(rng)
    chain = draw_chain(rng, hops)
    path, other = follow(names, chain), follow(names, chain)
    facts = path + other + more_facts(rng, names, path + other, _BESIDES)
    return f"Facts: {tell(rng, facts)}\nQ: {ask(chain, path[0].subject)}", path[-1].object


def read_hotpotqa(row: Row) -> tuple[str, str, int]:
    """A row's (question, answer, difficulty): every paragraph of its context, titles in brackets."""
    paragraphs = zip(row["context"]["title"], row["context"]["sentences"], strict=True)
    passage = " ".join(
        f"[{title}] {' '.join(' '.join(sentences).split())}" for title, sentences in paragraphs
    )
    question = " ".join(row["question"].split())
    return f"Passage: {passage}\nQ: {question}", " ".join(row["answer"].split()), _HOTPOT_LEVELS[row["level"]]


class ChainProposals:
    """Facts and a question about the end of a chain of ``difficulty`` hops, with at least one fact beside it."""

    computes_answer = True

    def prompt(self, examples: Sequence[tuple[str, str]], difficulty: int) -> str:
        shots = [question for question, _ in (*WORLD_FORM.examples, *examples)]
        shown = "".join(f"{question}\n\n" for question in shots if _hops(question) == difficulty)
        if difficulty == 3:
            shown = f"{_THREE_HOPS}\n\n{shown}"
        return f"New facts about new names, and a question that takes {difficulty} of them:\n\n{shown}Facts:"

    def parse(self, text: str, difficulty: int) -> tuple[str, str]:
        told, question = read_fields(text, ("Facts", "Q"))
        facts = read_facts(told)
        chain, start = read_question(question)
        if len(chain) != difficulty:
            raise ProposalError(
                "out_of_bounds", f"other difficulty: {len(chain)} hops are not difficulty {difficulty}"
            )
        answer = resolve(facts, chain, start)
        if len(facts) <= difficulty:
            said = f"no distractor: {len(facts)} facts, difficulty {difficulty} needs more"
            raise ProposalError("out_of_bounds", said)
        return f"Facts: {told}\nQ: {question}", answer


_THREE_HOPS = (
    "Facts: Mona works for Pelix. Sulburg lies in Doriland. Tilo works for Varex. Pelix is based in Sulburg.\n"
    "Q: What is the country of the seat of the employer of Mona?"
)


def _hops(question: str) -> int:
    return len(read_question(question.rpartition("Q: ")[2])[0])


MULTIHOP: tuple[QuestionSkill, ...] = (
    QuestionSkill(
        "hotpotqa",
        HOTPOT_FORM,
        shipped("hotpotqa", read_hotpotqa),
        score,
        ReadingProposals(),
        _LEVELS,
        max_new_tokens=32,
    ),
    QuestionSkill("multihop", WORLD_FORM, draw_world, score, ChainProposals(), _LEVELS, max_new_tokens=16),
)
