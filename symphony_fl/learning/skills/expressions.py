"""Arithmetic that a model wrote, evaluated exactly and safely: numbers, + - * /, brackets, nothing else."""

from __future__ import annotations

import ast
import re
from fractions import Fraction

from symphony_fl.learning.skills.base import ProposalError

LONGEST = 200  # characters; bounds the depth of the tree and the size of the numbers
_ALLOWED = re.compile(r"[0-9+\-*/(). ]+")
_SEPARATOR = re.compile(r"(?<=[0-9]),(?=[0-9]{3}(?![0-9]))")
_SIGNS = str.maketrans({"×": "*", "÷": "/", "−": "-"})


def evaluate(expression: str) -> tuple[Fraction, int]:
    """The exact value, and how many operations (+ - * /) it takes. ``"(12 + 5) * 2"`` gives ``(34, 2)``.

    Decimals are read as written (0.1 is one tenth) and thousands separators are dropped.

    Raises
    ------
    ProposalError
        Not such an expression, too long, or a division by zero.
    """
    text = _SEPARATOR.sub("", expression.strip().translate(_SIGNS))
    if len(text) > LONGEST:
        raise ProposalError(
            "too_long", f"long expression: {len(text)} characters, at most {LONGEST} are allowed"
        )
    if not _ALLOWED.fullmatch(text):
        raise ProposalError(
            "unparsable", f"bad expression: {text!r} must hold numbers, + - * / and brackets only"
        )
    try:
        tree = ast.parse(text, mode="eval").body
    except SyntaxError:
        raise ProposalError("unparsable", f"bad expression: {text!r} is not arithmetic") from None
    return _value(tree, text), sum(isinstance(node, ast.BinOp) for node in ast.walk(tree))


def _value(node: ast.expr, text: str) -> Fraction:
    match node:
        case ast.Constant(value=int() | float()):
            # From the text: the parsed float has already lost the decimals that were written.
            return Fraction(str(ast.get_source_segment(text, node)))
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_value(operand, text)
        case ast.BinOp(left=left, op=op, right=right):
            return _apply(op, _value(left, text), _value(right, text), text)
    raise ProposalError("unparsable", f"bad expression: {text!r} uses more than + - * / and brackets")


def _apply(op: ast.operator, left: Fraction, right: Fraction, text: str) -> Fraction:
    match op:
        case ast.Add():
            return left + right
        case ast.Sub():
            return left - right
        case ast.Mult():
            return left * right
        case ast.Div():
            if right == 0:
                raise ProposalError("unparsable", f"bad expression: {text!r} divides by zero")
            return left / right
    raise ProposalError("unparsable", f"bad expression: {text!r} uses more than + - * / and brackets")
