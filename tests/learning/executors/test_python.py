"""The Python executor: right values, and both of its walls, each tried without the other."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples import examples
from symphony_fl.learning.executors import python
from symphony_fl.learning.executors.python import (
    LIMITS,
    Call,
    Outcome,
    PythonLimits,
    run_calls,
    run_twice,
    sandbox_layers,
)
from symphony_fl.learning.executors.python_syntax import (
    PythonError,
    is_plain,
    parse_program,
    read_literals,
    same_value,
)

ROOT = Path(__file__).resolve().parents[3]
QUICK = PythonLimits(seconds=1.0)
linux = pytest.mark.skipif(sys.platform != "linux", reason="layers of Linux")

# Out of the language by a chain that the syntax check refuses: the real `os` of the worker.
ESCAPE = (
    "def f(x):\n"
    " for c in ().__class__.__base__.__subclasses__():\n"
    "  if c.__name__ == '_wrap_close':\n"
    "   os = c.__init__.__globals__\n"
    "   return {}\n"
)


def one(program: str, *arguments: object, limits: PythonLimits = LIMITS) -> Outcome:
    return run_calls([Call(program, arguments)], limits)[0]


def unchecked(monkeypatch: pytest.MonkeyPatch, program: str, *arguments: object) -> Outcome:
    """As ``one``, without the first wall."""
    monkeypatch.setattr(python, "_refusal", lambda call, limits: None)
    return one(program, *arguments)


@pytest.mark.parametrize(
    ("program", "arguments", "value"),
    [
        ("def f(x): return 3 * x + 1", (4,), 13),
        ("def f(x, y=2):\n    z = [x] * y\n    return tuple(z)", ("a",), ("a", "a")),
        ("import math\ndef f(x): return math.gcd(x, 12)", (18,), 6),
        ("from collections import Counter\ndef f(x): return dict(Counter(x))", ("aab",), {"a": 2, "b": 1}),
        ("def g(x): return 1 if x < 2 else x * g(x - 1)\ndef f(x): return g(x)", (5,), 120),
        ("def f(x):\n try:\n  return int(x)\n except ValueError:\n  return None", ("z",), None),
        ("import re\ndef f(x): return re.sub('[aeiou]', '', x)", ("banana",), "bnn"),
        ("def f(x): return f'{x:03d}é'", (7,), "007é"),
    ],
)
def test_values(program: str, arguments: tuple, value: object) -> None:
    outcome = one(program, *arguments)
    assert outcome == Outcome(value) and type(outcome.value) is type(value)


def test_a_batch_goes_on_after_calls_that_fail() -> None:
    calls = [
        Call("def f(x): return x", (1,)),
        Call("def f(x):\n while True: pass", (1,)),
        Call("def f(x): return 'a' * 10**11", (1,)),
        Call("def f(x): return 1 / x", (0,)),
        Call("def f(x): return f(x)", (0,)),
        Call("def f(x): return {1, 2}", (0,)),
        Call("def f(x): return 'a' * 5000", (0,)),
        Call("def f(x): return 1e999", (0,)),
        Call("def f(x):\n a = []\n a += [a]\n return a", (0,)),
        Call("open('x')", (0,)),
        Call("def f(x): return x", (2,)),
    ]
    errors = "|time|memory|exception ZeroDivisionError|recursion|result of type set|result too long"
    assert [o.error for o in run_calls(calls, QUICK)] == [
        *errors.split("|"),
        "result of type float",
        "result of type list",
        "unparsable",
        "",
    ]
    assert run_calls(calls[-1:], QUICK) == [Outcome(2)] and run_calls([], QUICK) == []


def test_one_call_sees_nothing_of_another() -> None:
    spoil = "import math\nseen = [1]\ndef f(x):\n len = 3\n seen.append(x)\n return seen"
    calls = [Call(spoil, (1,)), Call(spoil, (2,)), Call("def f(x): return len(x)", ("ab",))]
    assert [o.value for o in run_calls(calls, QUICK)] == [[1, 1], [1, 2], 2]


def test_two_hash_seeds_find_what_is_not_deterministic() -> None:
    found = run_twice(
        [Call("def f(x): return list(set(x))", ("abcdefgh",)), Call("def f(x): return 1 / x", (0,))]
    )
    assert [o.error for o in found] == ["non_deterministic", "exception ZeroDivisionError"]


@pytest.mark.parametrize(
    "program",
    [
        "import os\ndef f(x): os.fork()",
        "from os import fork\ndef f(x): fork()",
        "import math.os\ndef f(x): return 1",
        "from math import *\ndef f(x): return 1",
        "from string import Formatter\ndef f(x): return 1",
        "from functools import update_wrapper\ndef f(x): return 1",
        "def f(x): return ().__class__",
        "def f(x): return x._y",
        "def f(x): return __import__('os')",
        "def f(x): return '{0.__class__}'.format(x)",
        "def f(x): return str.format_map",
        "def f(x): return (y for y in x).gi_frame",
        "class A: pass\ndef f(x): return 1",
        "@property\ndef f(x): return 1",
        "def f(x):\n global y\n y = 1",
        "def f(x):\n with x: pass",
        "async def g(): pass\ndef f(x): return 1",
        "def f(x): x.y = 1",
        "def f(x):\n del x.y",
        "def f(__x): return 1",
        "def f(x): return g(__y=1)",
        "import math as __m\ndef f(x): return 1",
    ],
)
def test_the_language_wall(program: str) -> None:
    with pytest.raises(PythonError) as refused:
        parse_program(program, 2000)
    assert refused.value.reason == "forbidden"
    assert one(program, 1) == Outcome(None, "forbidden")


@pytest.mark.parametrize(
    "name",
    "open eval exec compile getattr setattr globals locals vars type object input id hash print help super".split(),
)
def test_missing_builtins(name: str) -> None:
    assert one(f"def f(x): return {name}(x)", "a").error == "exception NameError"


def test_the_modules_hold_nothing_else() -> None:
    assert one("import re\ndef f(x): return re.enum", 1).error == "exception AttributeError"


@linux
@pytest.mark.parametrize(
    "escaped",
    [
        "os['fork']()",
        "os['execv']('/bin/true', ['true'])",
        "os['open']('/etc/passwd', 0)",
        "os['open']('/tmp/written', 65, 511)",
        "os['pipe']()",
        "os['kill'](os['getppid'](), 9)",
        "os['listdir']('/')",
        "os['unlink']('/tmp/none')",
        "os['setuid'](0)",
    ],
)
def test_the_process_wall(monkeypatch: pytest.MonkeyPatch, escaped: str) -> None:
    """Code that broke out of the language meets an operating system that refuses."""
    outcome = unchecked(monkeypatch, ESCAPE.format(escaped), 1)
    assert outcome.error in ("exception PermissionError", "exception OSError", "exception BlockingIOError")


def test_the_escape_is_real(monkeypatch: pytest.MonkeyPatch) -> None:
    assert unchecked(monkeypatch, ESCAPE.format("os['sep']"), 1) == Outcome("/")


@linux
def test_no_network_even_with_the_real_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(python, "_MAIN", f"import socket; {python._MAIN}")
    program = ESCAPE.format("os['sys'].modules['socket'].socket()")
    assert unchecked(monkeypatch, program, 1).error in ("exception PermissionError", "exception OSError")


@linux
def test_without_privileges_and_without_the_filter_a_fork_bomb_ends_as_well() -> None:
    """The limits alone, as on a machine whose system calls cannot be filtered."""
    code = (
        "import os, sys; sys.path.insert(0, sys.argv[1])\n"
        "from symphony_fl.learning.executors import python_sandbox as s\n"
        "if os.geteuid() == 0: os.setgroups([]); os.setresgid(1234, 1234, 1234); os.setresuid(1234, 1234, 1234)\n"
        "s._limit(5, 2**28)\n"
        "for attempt in (os.fork, os.pipe, lambda: open('/etc/passwd')):\n"
        "    try: attempt()\n"
        "    except OSError as error: os.write(1, type(error).__name__.encode() + b' ')\n"
    )
    done = subprocess.run([sys.executable, "-S", "-c", code, str(ROOT)], capture_output=True, timeout=30)
    assert done.stdout.split() == [b"BlockingIOError", b"OSError", b"OSError"], done.stderr


def test_layers() -> None:
    layers = sandbox_layers()
    assert layers[0] == "limits"
    if sys.platform == "linux":
        assert "parent" in layers and ("user" in layers) == (os.geteuid() == 0)


@pytest.mark.parametrize(
    ("program", "errors"),
    [
        ("def f(x):\n while True: pass", {"time"}),
        ("def f(x):\n import itertools\n return sum(itertools.count())", {"time"}),
        ("def f(x): return 10 ** 10 ** 10", {"time", "memory"}),
        ("def f(x):\n a = [0]\n while True: a = a + a", {"time", "memory"}),
        ("def f(x): return f'{x:1000000000}'", {"memory", "exception ValueError"}),
        ("import re\ndef f(x): return re.match('(a+)+b', 'a' * 64)", {"time"}),
    ],
)
def test_bombs_end_soon(program: str, errors: set[str]) -> None:
    start = time.monotonic()
    assert one(program, 1, limits=QUICK).error in errors
    assert time.monotonic() - start < 8


@linux
def test_a_flood_of_output_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    start = time.monotonic()
    for text in ("b'x' * 65536", "b'[1]' + bytes([10])", "b'{}' + bytes([10])"):
        flood = ESCAPE.replace("{}", f"[os['write'](1, {text}) for i in range(10**9)]")
        assert unchecked(monkeypatch, flood, 1).value is None
    assert time.monotonic() - start < 10


def test_no_process_stays() -> None:
    before = set(psutil.Process().children(recursive=True))
    assert one("def f(x):\n while True: pass", 1, limits=QUICK).error == "time"
    assert set(psutil.Process().children(recursive=True)) <= before


@given(
    st.text(max_size=80)
    | st.lists(st.sampled_from("def f ( x ) : return \n [ ] + 1 lambda".split(" "))).map(" ".join)
)
def test_any_text_is_parsed_or_refused(text: str) -> None:
    for read in (parse_program, read_literals):
        try:
            read(text, 60)
        except PythonError as error:
            assert error.reason in ("too_long", "unparsable", "forbidden")


@pytest.mark.parametrize(
    "text", ["(" * 300, "-" * 1000 + "1", "1+" * 900 + "1", "9" * 5000, "\0", "f(" * 150, "[" * 99 + "]" * 99]
)
def test_deep_text_is_refused(text: str) -> None:
    with pytest.raises(PythonError):
        read_literals(text, 6000)
    with pytest.raises(PythonError):
        parse_program(text, 6000)


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.tuples(inner, inner) | st.dictionaries(st.text(max_size=2), inner, max_size=2)
    ),
    max_leaves=6,
)  # fmt: skip


@given(plain)
def test_plain_values_survive_their_text(value: object) -> None:
    assert is_plain(value)
    (again,) = read_literals(repr(value), 10**6)
    assert same_value(value, again)


@pytest.mark.parametrize(
    ("left", "right"), [(True, 1), (1, 1.0), ([1], (1,)), ({"a": 1}, {"a": True}), ("1", 1)]
)
def test_types_tell_values_apart(left: object, right: object) -> None:
    assert not same_value(left, right)


@examples(200)
@given(st.binary(max_size=40) | plain.map(lambda value: json.dumps(value).encode()))
def test_any_line_of_the_worker_is_read(line: bytes) -> None:
    assert isinstance(python._read_outcome(line, QUICK), Outcome)
