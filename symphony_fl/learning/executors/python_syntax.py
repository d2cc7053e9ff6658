"""The part of Python that small pure functions may be written in, checked on the syntax tree before anything runs.

Refused: classes, decorators, `global`, `with`, `async`, star imports, imports outside ``MODULES``, names beginning with
two underscores, attributes that begin with an underscore or belong to frames, generators and tracebacks, assignment
to attributes, and `format`/`format_map`, whose replacement fields read attributes at run time. This is the first of two
walls; a known way around it would still meet the process's own limits (python_sandbox.py).
"""

from __future__ import annotations

import ast
import re

MODULES: dict[str, tuple[str, ...]] = {
    "math": tuple(
        "ceil comb cos degrees dist e exp fabs factorial floor gcd hypot isclose isqrt lcm log log10 log2 "
        "perm pi pow prod radians sin sqrt tan trunc".split()
    ),
    "string": ("ascii_letters", "ascii_lowercase", "ascii_uppercase", "digits", "punctuation", "whitespace"),
    "itertools": tuple(
        "accumulate chain combinations combinations_with_replacement compress count cycle dropwhile "
        "filterfalse groupby islice pairwise permutations product repeat starmap takewhile zip_longest".split()
    ),
    "functools": ("cmp_to_key", "partial", "reduce"),
    "collections": ("Counter", "OrderedDict", "defaultdict", "deque"),
    "re": tuple("findall finditer fullmatch match search split sub subn IGNORECASE MULTILINE DOTALL".split()),
}
"""What each module that may be imported holds; a program sees these names and no others (no string.Formatter, no
functools.update_wrapper: they read attributes by name)."""

BUILTINS: tuple[str, ...] = tuple(
    "abs all any bin bool bytes chr dict divmod enumerate filter float frozenset hex int isinstance iter len "
    "list map max min next oct ord pow range repr reversed round set slice sorted str sum tuple zip "
    "ArithmeticError AssertionError AttributeError Exception IndexError KeyError LookupError OverflowError "
    "RuntimeError StopIteration TypeError ValueError ZeroDivisionError".split()
)

_NODES: tuple[type[ast.AST], ...] = (
    ast.Module, ast.FunctionDef, ast.arguments, ast.arg, ast.Return, ast.Assign, ast.AugAssign, ast.AnnAssign, ast.For,
    ast.While, ast.If, ast.Break, ast.Continue, ast.Pass, ast.Expr, ast.Assert, ast.Raise, ast.Try, ast.ExceptHandler,
    ast.Import, ast.ImportFrom, ast.alias, ast.Nonlocal, ast.Delete, ast.BoolOp, ast.BinOp, ast.UnaryOp, ast.Compare,
    ast.NamedExpr, ast.Lambda, ast.IfExp, ast.Dict, ast.Set, ast.List, ast.Tuple, ast.ListComp, ast.SetComp,
    ast.DictComp,
    ast.GeneratorExp, ast.comprehension, ast.Yield, ast.YieldFrom, ast.Call, ast.keyword, ast.JoinedStr,
    ast.FormattedValue, ast.Constant, ast.Attribute, ast.Subscript, ast.Slice, ast.Starred, ast.Name,
    ast.expr_context, ast.boolop, ast.operator, ast.unaryop, ast.cmpop,
)  # fmt: skip

_HIDDEN = re.compile(r"_|(?:f|tb|gi|cr|ag|co)_|(?:format|format_map|mro|with_traceback)$")


class PythonError(ValueError):
    """A program or an argument list is refused before it runs. ``reason``: too_long, unparsable or forbidden."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"program refused, {reason}: {detail}")
        self.reason = reason


def parse_program(source: str, max_chars: int) -> ast.Module:
    """The syntax tree of a program that defines a function ``f`` and uses only what is allowed.

    Raises
    ------
    PythonError
        Too long, not Python, something forbidden, or no ``def f`` at the top level.
    """
    tree = _parse(source, max_chars)
    for node in ast.walk(tree):
        what = _forbidden(node)
        if what:
            raise PythonError("forbidden", f"line {getattr(node, 'lineno', 0)}: {what}")
    if not any(isinstance(node, ast.FunctionDef) and node.name == "f" for node in tree.body):
        raise PythonError("unparsable", "no function f is defined")
    return tree


def _parse(source: str, max_chars: int) -> ast.Module:
    if len(source) > max_chars:
        raise PythonError("too_long", f"{len(source)} characters, at most {max_chars}")
    try:
        return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:  # of text too deep, or with a NUL
        raise PythonError("unparsable", f"{type(error).__name__}: {error}") from None


def _forbidden(node: ast.AST) -> str:
    """What is wrong with one node by itself; empty if nothing is."""
    if not isinstance(node, _NODES):
        return type(node).__name__
    if isinstance(node, ast.FunctionDef) and node.decorator_list:
        return "a decorator"
    if isinstance(node, ast.Import):
        return ", ".join(alias.name for alias in node.names if alias.name not in MODULES)
    if isinstance(node, ast.ImportFrom):
        names = MODULES.get(node.module or "", ())
        return ", ".join(f"{node.module}.{a.name}" for a in node.names if a.name not in names or node.level)
    if isinstance(node, ast.Attribute):
        stored = not isinstance(node.ctx, ast.Load)
        return f"attribute {node.attr}" if stored or _HIDDEN.match(node.attr) else ""
    for field in ("id", "name", "arg", "asname"):
        name = getattr(node, field, None)
        if isinstance(name, str) and name.startswith("__"):
            return f"name {name}"
    return ""


def read_literals(text: str, max_chars: int) -> tuple[object, ...]:
    """The values of an argument list such as ``3, [1, 2]``: plain data only (see ``is_plain``), at least one.

    Raises
    ------
    PythonError
        Too long, not literals, or values of other types.
    """
    if len(text) > max_chars:
        raise PythonError("too_long", f"{len(text)} characters, at most {max_chars}")
    try:
        values = ast.literal_eval(f"({text.strip()},)")
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        raise PythonError("unparsable", f"{text[:80]!r} is no list of literals") from None
    if not isinstance(values, tuple) or not is_plain(values):
        raise PythonError(
            "forbidden", f"{text[:80]!r}: allowed are None, bool, int, float, str, list, tuple, dict"
        )
    return values


def is_plain(value: object, depth: int = 10) -> bool:
    """Whether a value is made of None, bool, int, finite float, str, list, tuple and dict, no subclasses: its repr is a
    literal of it, and the same in every process (that of a set is not)."""
    if depth == 0:
        return False
    if isinstance(value, (list, tuple)):
        return type(value) in (list, tuple) and all(is_plain(item, depth - 1) for item in value)
    if isinstance(value, dict):
        return type(value) is dict and all(
            is_plain(item, depth - 1) for pair in value.items() for item in pair
        )
    if isinstance(value, float):
        return abs(value) < float("inf")
    return value is None or type(value) in (bool, int, str)


def same_value(left: object, right: object) -> bool:
    """Equality of plain values that tells True from 1 from 1.0; floats to 9 significant digits."""
    if type(left) is not type(right):
        return False
    if isinstance(left, float) and isinstance(right, float):
        return left == right or abs(left - right) <= 1e-9 * max(abs(left), abs(right))
    if isinstance(left, (list, tuple)) and isinstance(right, (list, tuple)):
        return len(left) == len(right) and all(map(same_value, left, right))
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same_value(left[key], right[key]) for key in left)
    return left == right
