"""Tasks that a model writes: labelled lines, read strictly and checked before they count.

    Passage: Tilo lives in Marburg. Anka lives in Rodel. Rodel lies in Tofland.
    Q: Where does Tilo live?
    A: Marburg

The prompt ends with the first label, so a proposal may begin right behind it. It ends at the first empty line.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Protocol

from symphony_fl.learning.skills.base import ProposalError
from symphony_fl.learning.skills.metrics import normalise_answer

LONGEST = 2000  # characters of a whole proposal
SENTENCES_PER_LEVEL = 3
_MOST_ANSWER_WORDS = 8
_STOP = re.compile(r"[.!?]")


class Proposals(Protocol):
    """How tasks of one family are written by a model. A question is the text of a task up to its ``A:`` line.

    ``computes_answer``: see ``base.ComputingSkill``.
    """

    @property
    def computes_answer(self) -> bool: ...

    def prompt(self, examples: Sequence[tuple[str, str]], difficulty: int) -> str:
        """What the model continues; ``examples`` are (question, answer) of known tasks."""
        ...

    def parse(self, text: str, difficulty: int) -> tuple[str, str]:
        """(question, answer) of one proposal; the answer is what the family's executor found, or confirmed.

        Raises
        ------
        ProposalError
            The text is no task of that difficulty.
        """
        ...


def read_fields(text: str, labels: Sequence[str]) -> list[str]:
    """The contents of the labelled lines, in the order of ``labels``, each one line and not empty.

    Raises
    ------
    ProposalError
        Too long, a label missing or out of order, or nothing behind it.
    """
    if len(text) > LONGEST:
        raise ProposalError(
            "too_long", f"long proposal: {len(text)} characters, at most {LONGEST} are allowed"
        )
    lines = text.strip().split("\n\n", 1)[0].split("\n")
    if not lines[0].lstrip().startswith(f"{labels[0]}:"):
        lines[0] = f"{labels[0]}: {lines[0]}"
    if len(lines) < len(labels):
        raise ProposalError("unparsable", f"missing line: {len(lines)} lines, expected {', '.join(labels)}")
    contents = []
    for label, line in zip(labels, lines, strict=False):
        found, colon, content = line.strip().partition(":")
        if not colon or found != label:
            raise ProposalError("unparsable", f"missing line: expected {label!r}: got {line[:40]!r}")
        if not content.strip():
            raise ProposalError("unparsable", f"empty line: nothing behind {label!r}")
        contents.append(" ".join(content.split()))
    return contents


def check_question(question: str) -> None:
    """Raises ProposalError unless it ends with its only question mark."""
    if question.count("?") != 1 or not question.endswith("?") or len(question.split()) < 3:
        said = f"bad question: {question[:60]!r} must be one question of three words or more"
        raise ProposalError("unparsable", said)


class ReadingProposals:
    """A passage, a question, and an answer that stands in the passage but not in the question.

    That the answer is to this question nobody can compute: what is checked is only that it can be read off.
    Difficulty is the passage's length: at least three sentences per level.
    """

    computes_answer = False

    instruction = (
        "Write a passage of {sentences} short sentences, a question, and its answer from the passage."
    )

    def prompt(self, examples: Sequence[tuple[str, str]], difficulty: int) -> str:
        shown = "".join(
            f"{question}\nA: {answer}\n\n" for question, answer in examples if "Passage:" in question
        )
        return f"{self.instruction.format(sentences=SENTENCES_PER_LEVEL * difficulty)}\n\n{shown}Passage:"

    def parse(self, text: str, difficulty: int) -> tuple[str, str]:
        passage, question, answer = read_fields(text, ("Passage", "Q", "A"))
        check_question(question)
        sentences = sum(bool(part.strip()) for part in _STOP.split(passage)[:-1])
        if sentences < SENTENCES_PER_LEVEL * difficulty:
            raise ProposalError(
                "out_of_bounds",
                f"short passage: {sentences} sentences, difficulty {difficulty} needs "
                f"{SENTENCES_PER_LEVEL * difficulty} or more",
            )
        words = normalise_answer(answer)
        if not words or len(words.split()) > _MOST_ANSWER_WORDS:
            raise ProposalError(
                "executor", f"bad answer: {answer[:60]!r} must be 1 to {_MOST_ANSWER_WORDS} words"
            )
        if f" {words} " not in f" {normalise_answer(passage)} ":
            raise ProposalError(
                "executor", f"unsupported answer: {answer[:60]!r} does not occur in the passage"
            )
        if f" {words} " in f" {normalise_answer(question)} ":
            raise ProposalError("trivial", f"given answer: {answer[:60]!r} occurs in the question")
        return f"Passage: {passage}\nQ: {question}", answer
