"""The evaluator against Python's own arithmetic; everything else is refused by name."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from symphony_fl.learning.skills.base import ProposalError
from symphony_fl.learning.skills.expressions import LONGEST, evaluate

numbers = st.integers(0, 999).map(lambda n: (str(n), Fraction(n), 0))


def _join(
    left: tuple[str, Fraction, int], sign: str, right: tuple[str, Fraction, int]
) -> tuple[str, Fraction, int]:
    if sign == "/" and right[1] == 0:
        sign = "+"
    value = {"+": left[1] + right[1], "-": left[1] - right[1], "*": left[1] * right[1]}.get(sign)
    if value is None:
        value = left[1] / right[1]
    return f"({left[0]} {sign} {right[0]})", value, left[2] + right[2] + 1


trees = st.recursive(
    numbers, lambda inner: st.builds(_join, inner, st.sampled_from("+-*/"), inner), max_leaves=12
)


@given(trees)
def test_value_and_operations_of_any_tree(tree: tuple[str, Fraction, int]) -> None:
    text, value, operations = tree
    if len(text) <= LONGEST:
        assert evaluate(text) == (value, operations)


@pytest.mark.parametrize(
    ("text", "value", "operations"),
    [
        ("2 + 3 * 4", Fraction(14), 2),
        ("0.1 + 0.2", Fraction(3, 10), 1),  # exact, as no float is
        ("1,200 / 7", Fraction(1200, 7), 1),
        ("-3 − 2", Fraction(-5), 1),
        ("6 × 4 ÷ 3", Fraction(8), 2),
        ("0.10000000000000000001 * 1", Fraction("0.10000000000000000001"), 1),
        ("7", Fraction(7), 0),
    ],
)
def test_by_hand(text: str, value: Fraction, operations: int) -> None:
    assert evaluate(text) == (value, operations)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "bad expression"),
        ("x + 1", "bad expression"),
        ("__import__('os')", "bad expression"),
        ("2 ** 9", "bad expression"),
        ("9 // 2", "bad expression"),
        ("+3", "bad expression"),
        ("(1 + 2", "bad expression"),
        ("3 4", "bad expression"),
        ("(3)(4)", "bad expression"),
        ("007", "bad expression"),
        ("1 / (2 - 2)", "divides by zero"),
        ("1+" * LONGEST + "1", "long expression"),
    ],
)
def test_refused(text: str, reason: str) -> None:
    with pytest.raises(ProposalError, match=reason):
        evaluate(text)


def test_any_text_is_evaluated_or_refused() -> None:
    outcomes: Counter[str] = Counter()

    @given(st.text("0123456789+-*/(). ,e_xj", max_size=60) | st.text(max_size=60))
    @example("(1 + 2) * 3 / 4")
    def read(text: str) -> None:
        try:
            value, operations = evaluate(text)
        except ProposalError:
            outcomes["refused"] += 1
            return
        outcomes["evaluated"] += 1
        assert isinstance(value, Fraction) and operations >= 0

    read()
    assert outcomes["evaluated"] and outcomes["refused"]
