"""Calls of untrusted pure functions, in a confined process of their own.

Two walls, either of which should hold alone:

- the language: a syntax check in this process (python_syntax.py), restricted builtins and modules in the other;
- the process: a fresh interpreter that limits itself for good before the first program runs (python_sandbox.py says
  what holds on which system, and what is not promised), is killed with its whole group when a call takes too long, and
  whose output is bounded and read as literals, never unpickled.

Several calls share one process, because starting one costs more than most calls. Calls of one batch are therefore not
protected from each other, should one break the first wall. If one hangs or kills the process, the calls
after it go on in
a fresh one.
"""

from __future__ import annotations

import ast
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from symphony_fl.learning.executors.python_syntax import (
    PythonError,
    is_plain,
    parse_program,
    same_value,
)

_ROOT = Path(__file__).resolve().parents[3]
_MAIN = (
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "from symphony_fl.learning.executors.python_worker import main; main()"
)
_START_SECONDS = 30.0  # of the interpreter, on a busy machine
_LINE_OVERHEAD = 100  # characters of a line beside the value


class SandboxError(RuntimeError):
    """The confined process could not be set up on this machine; no untrusted code was run."""


@dataclass(frozen=True)
class PythonLimits:
    """What one call may cost: wall-clock seconds, memory of the process, characters of program and of result."""

    seconds: float = 2.0
    memory_bytes: int = 256 * 2**20
    program_chars: int = 2000
    result_chars: int = 2000


@dataclass(frozen=True)
class Call:
    """``f(*arguments)`` of a program that defines ``f``; arguments are plain values (``python_syntax.is_plain``)."""

    program: str
    arguments: tuple[object, ...]


@dataclass(frozen=True)
class Outcome:
    """``value`` if ``error`` is empty. Errors: too_long, unparsable, forbidden (nothing ran); time, memory, recursion,
    died, result too long, "result of type T", "exception E"; and non_deterministic, of ``run_twice`` only."""

    value: object = None
    error: str = ""


LIMITS = PythonLimits()


def run_calls(calls: Sequence[Call], limits: PythonLimits = LIMITS, hash_seed: int = 0) -> list[Outcome]:
    """One outcome per call, in order. ``hash_seed`` decides the iteration order of sets of strings.

    Raises:
        SandboxError: the process could not be started or confined.
        ValueError: an argument is no plain value.
    """
    outcomes: list[Outcome | None] = [_refusal(call, limits) for call in calls]
    waiting = [place for place, outcome in enumerate(outcomes) if outcome is None]
    while waiting:
        _, found = _talk([calls[place] for place in waiting], limits, hash_seed)
        for place, outcome in zip(waiting, found, strict=False):
            outcomes[place] = outcome
        waiting = waiting[len(found) :]
    return [outcome for outcome in outcomes if outcome is not None]


def run_twice(calls: Sequence[Call], limits: PythonLimits = LIMITS) -> list[Outcome]:
    """As ``run_calls``, in two processes with different hash seeds; unequal results are non_deterministic."""
    first, second = (run_calls(calls, limits, hash_seed) for hash_seed in (0, 1))
    return [
        one
        if one.error == other.error and same_value(one.value, other.value)
        else Outcome(None, "non_deterministic")
        for one, other in zip(first, second, strict=True)
    ]


def sandbox_layers() -> tuple[str, ...]:
    """The layers of python_sandbox.py that hold on this machine.

    Raises:
        SandboxError: as of ``run_calls``.
    """
    layers, _ = _talk([], LIMITS, 0)
    return layers


def _refusal(call: Call, limits: PythonLimits) -> Outcome | None:
    if not is_plain(call.arguments):
        raise ValueError(
            f"arguments {call.arguments!r:.80}: allowed are None, bool, int, float, str, list, tuple, dict"
        )
    try:
        parse_program(call.program, limits.program_chars)
    except PythonError as error:
        return Outcome(None, error.reason)
    return None


def _talk(
    calls: Sequence[Call], limits: PythonLimits, hash_seed: int
) -> tuple[tuple[str, ...], list[Outcome]]:
    """Start a worker, give it the calls, collect its lines; it is gone when this returns.

    Returns the worker's layers and the outcomes of the first calls, at least one if there are any: up to and including
    the one that hung or killed the process.
    """
    request = {
        "calls": [{"program": call.program, "arguments": repr(call.arguments)} for call in calls],
        "cpu_seconds": int(limits.seconds * len(calls)) + 2,
        "memory_bytes": limits.memory_bytes,
        "result_chars": limits.result_chars,
    }
    # -P -s -S and an environment of one variable are what -I is, which would ignore that variable
    process = subprocess.Popen(
        [sys.executable, "-P", "-s", "-S", "-c", _MAIN, str(_ROOT)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        cwd="/", env={"PYTHONHASHSEED": str(hash_seed)}, start_new_session=True,
    )  # fmt: skip
    try:
        assert process.stdin is not None
        with process.stdin as stdin:
            stdin.write(json.dumps(request).encode())
        lines = _lines(process, limits)
        layers = _read_layers(next(lines, b""))
        outcomes: list[Outcome] = []
        for line in lines:
            outcomes.append(_read_outcome(line, limits))
            if len(outcomes) == len(calls):
                break
    except BrokenPipeError:
        raise SandboxError("the confined process ended before it read its calls") from None
    except TimeoutError:
        outcomes.append(Outcome(None, "time"))
    finally:
        _kill(process)
    if len(outcomes) < len(calls) and (not outcomes or outcomes[-1].error != "time"):
        outcomes.append(Outcome(None, "time" if process.returncode == -signal.SIGXCPU else "died"))
    return layers, outcomes


def _lines(process: subprocess.Popen[bytes], limits: PythonLimits) -> Iterator[bytes]:
    """The process's lines; each has its own deadline and a bounded length.

    Raises:
        SandboxError: no first line in time.
        TimeoutError: no further line in time.
    """
    assert process.stdout is not None
    longest = 12 * limits.result_chars + _LINE_OVERHEAD  # JSON writes an emoji in 12 characters
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        held, deadline, started = b"", time.monotonic() + _START_SECONDS, False
        while len(held) <= longest:
            if not selector.select(max(0.0, deadline - time.monotonic())):
                if not started:
                    raise SandboxError(f"the confined process did not start within {_START_SECONDS:g} s")
                raise TimeoutError
            read = os.read(process.stdout.fileno(), 65536)
            if not read:
                return
            *whole, held = (held + read).split(b"\n")
            for line in whole:
                yield line
                started, deadline = True, time.monotonic() + limits.seconds


def _read_layers(line: bytes) -> tuple[str, ...]:
    try:
        hello = json.loads(line)
    except ValueError:
        raise SandboxError("the confined process ended before it was ready") from None
    if "layers" not in hello:
        raise SandboxError(f"the process cannot be confined here: {hello.get('broken')}")
    return tuple(hello["layers"])


def _read_outcome(line: bytes, limits: PythonLimits) -> Outcome:
    """One line of a process that may have been taken over: nothing in it is believed."""
    try:
        message = json.loads(line)
        error, text = message.get("error", ""), message.get("value", "")
        if error or len(text) > limits.result_chars:
            return Outcome(None, str(error)[:80] or "result too long")
        value = ast.literal_eval(text)
    except (ValueError, TypeError, AttributeError, SyntaxError, RecursionError, MemoryError):
        return Outcome(None, "died")
    return Outcome(value) if is_plain(value) else Outcome(None, "died")


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End the process and everything of its group, and collect it. Its own code is kept if it has ended by itself."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass  # it is gone, and its group with it
    process.wait()
    if process.stdout is not None:
        process.stdout.close()
