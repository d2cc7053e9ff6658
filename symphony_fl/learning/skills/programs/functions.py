"""Small pure functions with inputs and outputs, written from templates.

difficulty    operations of the program (calls, operators, comparisons, loops, comprehensions, subscripts)
1             1-2
2             3-5
3             6-40
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from symphony_fl.learning.executors.python_syntax import PythonError, parse_program
from symphony_fl.learning.executors.python_worker import builtins_of_programs, call_function

OPERATIONS = {1: range(1, 3), 2: range(3, 6), 3: range(6, 41)}
PROGRAM_CHARS = 400
VALUE_CHARS = 60

_OPERATIONS = (
    ast.Call, ast.BinOp, ast.BoolOp, ast.Compare, ast.IfExp, ast.Subscript, ast.For, ast.While, ast.If,
    ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp, ast.JoinedStr, ast.AugAssign,
)  # fmt: skip

# Constants: A, B, C are drawn from 2..9, each time anew.
_TEMPLATES: dict[int, dict[str, tuple[str, ...]]] = {
    1: {
        "int": ("A * x + B", "(x + A) * B", "x % A + B", "x // A - B", "abs(x - A)", "x * x + A", "max(x, A) - B"),
        "list": (
            "[y + A for y in x]", "sorted(x)[:A]", "x[::-1] + [A]", "[y for y in x if y > A]", "sum(x) + A",
            "len(x) * A", "max(x) - A", "x + [len(x)]",
        ),
        "str": ("x[::-1] + 'ab'", "x.upper() * A", "len(x) + A", "x.replace('a', 'e') + '!'", "x[A:]"),
    },
    2: {
        "int": ("(A * x + B) % C", "x // A + x % B", "[x * y for y in range(A)]", "sum(range(x)) + A * x"),
        "list": (
            "sum([y for y in x if y % A == B])", "[y * A for y in sorted(x)[:B]]", "sorted(x[A:])[::-1]",
            "max(x) - min(x) + A", "x[A:] + x[:A]",
            "[i * y + A for i, y in enumerate(x)]", "[y - min(x) for y in x] + [A]",
        ),
        "str": (
            "''.join([c for c in x if c not in 'aeiou'])", "x[A:] + x[:A]", "''.join(sorted(x))[::-1]",
            "x[0].upper() + x[1:]", "[ord(c) % A for c in x]", "x[::-1].upper() + str(A)",
        ),
    },
    3: {
        "int": (
            "(A * x + B) % C + x // A - (x - B)", "sum([y * y for y in range(x) if y % A != 0]) + B * x",
            "[(x + y) % A for y in range(B) if y % 2 == 0]",
        ),
        "list": (
            "sum([A * y for y in sorted(x)[1:] if y % B != 0])", "[y - A for y in sorted(x) if y > B][:C] + [len(x)]",
            "sum([(i + A) * y for i, y in enumerate(sorted(x)) if y % B == 0])",
            "[max(y - A, 0) for y in x[::-1]] + [sum(x) % B]",
            "sorted(x, key=lambda y: (y % A, y))[:B] + [max(x) - min(x)]",
        ),
        "str": (
            "''.join([c.upper() if c in 'aeiou' else c for c in x[::-1]]) + str(len(x))",
            "''.join([c for i, c in enumerate(x) if i % 2 == 0]) + x[::-1][:A] + str(B)",
            "sorted(x.replace('a', 'o'))[:A] + [str(len(x) * B)]",
        ),
    },
}  # fmt: skip

_ONSETS, _VOWELS = "bcdfglmnprst", "aeiou"


@dataclass(frozen=True)
class Example:
    """A program that defines ``f``, argument lists as text (``3, [1]``), and the results' literals."""

    program: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


Draw = Callable[[np.random.Generator, int, int], Example]
"""``draw(rng, difficulty, calls)``: an example with that many different inputs."""


def draw_template(rng: np.random.Generator, difficulty: int, calls: int) -> Example:
    """A program of one line with fresh constants. Draws again until the results differ and are short."""
    kinds = _TEMPLATES[difficulty]
    kind = str(rng.choice(list(kinds)))
    source = str(rng.choice(kinds[kind]))
    for letter in "ABC":
        source = source.replace(letter, str(rng.integers(2, 10)))
    program = f"def f(x): return {source}"
    values = [_value(rng, kind) for _ in range(calls)]
    # our own text with small constants: it needs no process of its own
    scope = builtins_of_programs()
    outputs = [repr(call_function(program, (value,), scope)) for value in values]
    inputs = [repr(value) for value in values]
    distinct = len(set(inputs)) == calls and (calls == 1 or len(set(outputs)) > 1)
    if not distinct or max(map(len, outputs)) > VALUE_CHARS:
        return draw_template(rng, difficulty, calls)
    return Example(program, tuple(inputs), tuple(outputs))


def operations(tree: ast.AST) -> int:
    """How much a program does: the number of its operations, wherever they are written."""
    return sum(isinstance(node, _OPERATIONS) for node in ast.walk(tree))


def unused_parameters(tree: ast.Module) -> list[str]:
    """Parameters of ``f`` that its body never reads."""
    (function,) = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "f"][-1:]
    arguments = function.args
    named = [
        *arguments.posonlyargs,
        *arguments.args,
        *arguments.kwonlyargs,
        arguments.vararg,
        arguments.kwarg,
    ]
    read = {
        node.id
        for node in ast.walk(function)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
    }
    return [argument.arg for argument in named if argument is not None and argument.arg not in read]


def canonical(tree: ast.Module) -> str:
    """The program without comments, docstrings and blank lines; on one line where it is a single statement.

    Raises
    ------
    PythonError
        That would change it, or an f-string of several lines, which prompts could not tell from code.
    """
    for function in [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]:
        if ast.get_docstring(function) is not None and len(function.body) > 1:
            del function.body[0]
    lines = [line for line in ast.unparse(tree).split("\n") if line.strip()]
    program = f"{lines[0]} {lines[1].strip()}" if len(lines) == 2 else "\n".join(lines)
    parts = [part for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in ast.walk(node)]
    several_lines = any(isinstance(part, ast.Constant) and "\n" in str(part.value) for part in parts)
    if several_lines or ast.dump(parse_program(program, PROGRAM_CHARS)) != ast.dump(tree):
        raise PythonError("unparsable", "a string of several lines")
    return program


def arguments_text(values: tuple[object, ...]) -> str:
    """Arguments as they stand between the brackets of a call."""
    return ", ".join(map(repr, values))


def _value(rng: np.random.Generator, kind: str) -> object:
    if kind == "int":
        return int(rng.integers(1, 30))
    if kind == "list":
        return [int(number) for number in rng.integers(0, 20, size=rng.integers(2, 6))]
    syllables = rng.integers(2, 4)
    return "".join(rng.choice(list(_ONSETS)) + rng.choice(list(_VOWELS)) for _ in range(syllables))
