"""Metrics against answers worked out by hand; any text is judged, and soon."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from examples import examples
from symphony_fl.learning.skills.metrics import (
    LONGEST_EXPRESSION,
    exact_match,
    first_line,
    gsm8k_answer,
    math_equal,
    normalise_answer,
)

words = st.text("abct the.,'", max_size=20)


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("The  Cat, sat!", "cat sat"),
        ("An apple a day", "apple day"),
        ("Theatre", "theatre"),
        ("U.S.A.", "usa"),
        ("the", ""),
        ("well-known", "wellknown"),
        ("a\tb\n", "b"),
    ],
)
def test_squad_normalisation(text: str, plain: str) -> None:
    assert normalise_answer(text) == plain


@given(words)
def test_exact_match_ignores_articles_case_and_punctuation(text: str) -> None:
    assert exact_match(f" The {text.upper()} !", [text]) == 1.0


def test_the_best_gold_counts() -> None:
    assert exact_match("Einstein", ["Albert Einstein", "einstein."]) == 1.0
    assert exact_match("Einstein", ["Albert Einstein"]) == 0.0
    assert exact_match("x", []) == 0.0


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("5 + 4 = 9\n#### 9", "9"),
        ("#### 1,009.", "1009"),
        ("#### $18", "18"),
        ("#### -3.50 dollars", "-3.50"),
        ("####7\n#### 8", "7"),
        ("the answer is 9", None),
        ("#### nine", None),
        ("### 9", None),
        ("####" + " " * 100_000, None),  # and soon
    ],
)
def test_gsm8k_answer(text: str, number: str | None) -> None:
    assert gsm8k_answer(text) == number


@given(st.integers(-(10**12), 10**12), st.text("abc 123=\n", max_size=30))
def test_any_number_is_found_with_and_without_separators(number: int, before: str) -> None:
    assert gsm8k_answer(f"{before}#### {number:,}\nmore #### 1") == str(number)


@pytest.mark.parametrize(
    ("gold", "answer", "equal"),
    [
        ("18", "18.0", True),
        ("18", "018", True),
        ("1/2", "0.5", True),
        (r"\frac{1}{2}", "0.5", True),
        (r"\sqrt{18}", r"3\sqrt{2}", True),
        ("x^2+2x+1", "(x+1)^2", True),
        ("2^{10}", "1024", True),
        ("18", "19", False),
        ("18", "-18", False),
        ("1", "1e9", False),
        ("1", "", False),
        ("x^2", "x^3", False),
    ],
)
def test_math_equal(gold: str, answer: str, equal: bool) -> None:
    assert math_equal(gold, answer) is equal


@pytest.mark.parametrize(
    "text", ["9^9^9^9", "9**9**9**9", "9^{999999999}", "99999!", r"\sum_{i=1}^{9} i", "9" * 101]
)
def test_what_could_run_for_ever_is_not_tried(text: str) -> None:
    assert len(text) <= LONGEST_EXPRESSION + 1
    assert math_equal("1", text) is False and math_equal(text, "1") is False


@settings(examples(60), deadline=5000)
@given(st.text(r"0123456789x+-*/^(){}$\., ", max_size=40))
def test_any_expression_is_judged_and_soon(text: str) -> None:
    assert math_equal("7", text) in (True, False)


@given(st.text())
def test_a_first_line_is_one_line(text: str) -> None:
    assert "\n" not in first_line(text)
    assert first_line(f"x{text}").startswith("x")
