"""Grade-school word problems: GSM8K's rows, and GSM-Symbolic's templates with fresh names and numbers.

    gsm8k          Cobbe et al., arXiv 2110.14168; rows by ``loaders``
    gsm_symbolic   Mirzadeh et al., arXiv 2410.05229; the templates of reasoning-gym, drawn by its own generator

Difficulty is the number of steps of the published solution: 1: one or two, 2: three, 3: four or more. (The generator's
own ``difficulty`` argument accepts nothing but 1.0.) An answer is the number behind ``####``, as GSM8K
writes it. A proposal is a question and the expression that answers it; the expression is evaluated here:

    Q: Tom has 5 apples and buys 4 bags of 3. How many apples has he now?
    E: 5 + 4 * 3
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from symphony_fl.learning.skills.base import ProposalError, SkillError
from symphony_fl.learning.skills.datasets.loaders import Row
from symphony_fl.learning.skills.datasets.rows import shipped
from symphony_fl.learning.skills.expressions import evaluate
from symphony_fl.learning.skills.metrics import first_line, gsm8k_answer, math_equal
from symphony_fl.learning.skills.proposals import check_question, read_fields
from symphony_fl.learning.skills.questions import Form, QuestionSkill

HARDEST = 3
_DRAWS = 1000  # a draw is of a given difficulty about once in three
_INTEGER = re.compile(r"-?[0-9]+")
_ALONE = re.compile(r"\$?(-?[0-9][0-9,]*(?:\.[0-9]+)?)\.?")
_NUMBER = re.compile(r"[0-9]+(?:,[0-9]{3})*(?:\.[0-9]+)?")
_BEHIND_QUESTION = " Give the result as your final answer. Do not include units."
_LARGEST = 10**9
# Numbers that a question may say in words: twice, a dozen, hours of a day, per cent, days of a year.
_UNSAID = frozenset({"12", "20", "24", "30", "50", "52", "60", "100", "365", "1000"})

FORM = Form(
    instruction="Solve the word problem step by step. End with a line of '#### ' and the number alone.",
    examples=(
        (
            "Q: Kim has 3 boxes with 4 pencils each and finds 5 more pencils. How many pencils does Kim have?",
            "The boxes hold 3 * 4 = 12 pencils.\nWith those found it is 12 + 5 = 17 pencils.\n#### 17",
        ),
        (
            "Q: A baker made 40 rolls, sold half of them before noon and 12 after noon. How many rolls are left?",
            "Before noon 40 / 2 = 20 were sold.\nThat left 40 - 20 = 20.\nIn the end 20 - 12 = 8 are left.\n#### 8",
        ),
    ),
)


def level_of(steps: int) -> int:
    """Difficulty of a solution of that many steps."""
    return min(max(steps - 1, 1), HARDEST)


def score(completion: str, answers: Sequence[str]) -> float:
    """1 if the number behind the first ``####`` equals the answer; what follows another "Q:" is not read.

    Wider than published in one point: a first line that is nothing but the number is an answer too.
    """
    alone = _ALONE.fullmatch(first_line(completion))
    number = gsm8k_answer(f"#### {alone[1]}" if alone else completion.split("\nQ:", 1)[0])
    return float(number is not None and math_equal(answers[0], number))


def read_gsm8k(row: Row) -> tuple[str, str, int]:
    """A row's (question, answer, difficulty); GSM8K marks every step of a solution as ``<<48/2=24>>``."""
    answer = gsm8k_answer(row["answer"])
    assert answer is not None  # the format's check has seen it
    return f"Q: {' '.join(row['question'].split())}", answer, level_of(row["answer"].count("<<"))


def draw_symbolic(rng: np.random.Generator, difficulty: int) -> tuple[str, str]:
    """One problem of GSM-Symbolic whose solution has the right number of steps (its equations are counted)."""
    try:
        from reasoning_gym import create_dataset  # imports sympy and more, two seconds
    except ImportError as error:
        raise SkillError(
            f"skill 'gsm_symbolic': needs reasoning-gym: pip install '.[gsm]' ({error})"
        ) from None

    for _ in range(_DRAWS):
        item = create_dataset("gsm_symbolic", seed=int(rng.integers(2**31)), size=1)[0]
        steps = item["metadata"]["answer_cot"].count("=")
        if level_of(steps) == difficulty and _INTEGER.fullmatch(item["answer"]):
            question = " ".join(item["question"].removesuffix(_BEHIND_QUESTION).split())
            return f"Q: {question}", item["answer"]
    raise SkillError(f"gsm_symbolic: {_DRAWS} draws gave no problem of difficulty {difficulty}")


class ExpressionProposals:
    """A question and the expression that answers it. Known tasks have no expression: only their questions are shown."""

    computes_answer = False  # of the proposal's expression, which may not be the question's

    shots = (
        ("A farmer has 6 hens and buys 3 cages of 4 hens. How many hens are there now?", "6 + 3 * 4", 2),
        ("Nora had 50 coins, spent 18 and lost 7. How many coins are left?", "50 - 18 - 7", 2),
        ("Sam packs 5 bags of 8 nuts and 2 bags of 9 nuts. How many nuts are packed?", "5 * 8 + 2 * 9", 3),
        (
            "A class of 24 pays 3 each and 16 for the bus, shared by 4. What is each share?",
            "(24 * 3 + 16) / 4",
            3,
        ),
        (
            "Rosa sells 7 pies at 6 and 5 cakes at 9, then pays 20 for flour. What is left?",
            "7 * 6 + 5 * 9 - 20",
            4,
        ),
        (
            "A train has 8 cars of 40 seats; 35 are broken and 2 groups take 60 each. How many are free?",
            "8 * 40 - 35 - 60 * 2",
            4,
        ),
    )  # question, expression, operations

    def prompt(self, examples: Sequence[tuple[str, str]], difficulty: int) -> str:
        shown = "".join(f"- {question.removeprefix('Q: ')}\n" for question, _ in examples)
        known = f"Some questions:\n{shown}\n" if shown else ""
        shots = "".join(
            f"Q: {q}\nE: {e}\n\n" for q, e, operations in self.shots if level_of(operations) == difficulty
        )
        return f"{known}A new question, and the arithmetic that answers it:\n\n{shots}Q:"

    def parse(self, text: str, difficulty: int) -> tuple[str, str]:
        question, expression = read_fields(text, ("Q", "E"))
        check_question(question)
        value, operations = evaluate(expression.split("=", 1)[0])
        if operations == 0 or level_of(operations) != difficulty:
            message = f"other difficulty: {operations} operations are not difficulty {difficulty}"
            raise ProposalError("out_of_bounds", message)
        if value.denominator != 1 or not 0 <= value < _LARGEST:
            raise ProposalError("executor", f"bad answer: {value} must be a whole number in [0, {_LARGEST})")
        said = {number.replace(",", "") for number in _NUMBER.findall(question)}
        used = {number.replace(",", "") for number in _NUMBER.findall(expression.split("=", 1)[0])}
        unsaid = {number for number in used - said - _UNSAID if float(number) > 10}
        if unsaid or not used & said:
            raise ProposalError(
                "trivial", f"unrelated expression: {expression[:60]!r} uses numbers that the question lacks"
            )
        return f"Q: {question}", str(value)


_PROPOSALS = ExpressionProposals()
_LEVELS = range(1, HARDEST + 1)
_TOKENS = 256  # steps and answer; GSM8K's longest solutions need more, most need half

GSM: tuple[QuestionSkill, ...] = (
    QuestionSkill("gsm8k", FORM, shipped("gsm8k", read_gsm8k), score, _PROPOSALS, _LEVELS, _TOKENS),
    QuestionSkill("gsm_symbolic", FORM, draw_symbolic, score, _PROPOSALS, _LEVELS, _TOKENS),
)
