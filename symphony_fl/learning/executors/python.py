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
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from symphony_fl.learning.executors.allowance import Allowance
from symphony_fl.learning.executors.process import START_SECONDS, SandboxError, end, read_layers, start
from symphony_fl.learning.executors.python_syntax import (
    PythonError,
    is_plain,
    parse_program,
    same_value,
)

_MAIN = "from symphony_fl.learning.executors.python_worker import main; main()"
_LINE_OVERHEAD = 100  # characters of a line beside the value


@dataclass(frozen=True)
class PythonLimits:
    """What one call may cost: wall-clock seconds, memory of the process, characters of program and of result; and a
    batch of calls: wall-clock seconds, starts of processes not counted."""

    seconds: float = 2.0
    batch_seconds: float = 4.0
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
    died, result too long, "result of type T", "exception E"; not_run after an error, where the caller asked for that;
    and non_deterministic, of ``run_twice`` only."""

    value: object = None
    error: str = ""


LIMITS = PythonLimits()


def run_calls(
    calls: Sequence[Call],
    limits: PythonLimits = LIMITS,
    hash_seed: int = 0,
    allowance: Allowance | None = None,
    all_or_none: bool = False,
) -> list[Outcome]:
    """One outcome per call, in order.

    Parameters
    ----------
    hash_seed : decides the iteration order of sets of strings.
    allowance : what the calls may take beside ``limits``; calls without any left have the outcome time.
    all_or_none : the first error ends the batch, the calls behind it are not_run.

    Raises
    ------
    SandboxError
        The process could not be started or confined.
    ValueError
        An argument is no plain value.
    """
    batch = Allowance(limits.batch_seconds, allowance)
    outcomes: list[Outcome | None] = [_refusal(call, limits) for call in calls]
    if all_or_none and any(outcomes):
        return [outcome or Outcome(None, "not_run") for outcome in outcomes]
    waiting = [place for place, outcome in enumerate(outcomes) if outcome is None]
    while waiting and batch.left > 0:
        _, found = _talk([calls[place] for place in waiting], limits, hash_seed, batch, all_or_none)
        for place, outcome in zip(waiting, found, strict=False):
            outcomes[place] = outcome
        waiting = waiting[len(found) :]
        if all_or_none and found[-1].error:
            return [outcome or Outcome(None, "not_run") for outcome in outcomes]
    return [outcome or Outcome(None, "time") for outcome in outcomes]


def run_twice(
    calls: Sequence[Call],
    limits: PythonLimits = LIMITS,
    allowance: Allowance | None = None,
    all_or_none: bool = False,
) -> list[Outcome]:
    """As ``run_calls``, in two processes with different hash seeds; unequal results are non_deterministic. Under
    ``all_or_none`` calls of which one failed are not run again."""
    first = run_calls(calls, limits, 0, allowance, all_or_none)
    if all_or_none and any(outcome.error for outcome in first):
        return first
    second = run_calls(calls, limits, 1, allowance, all_or_none)
    return [
        one
        if one.error == other.error and same_value(one.value, other.value)
        else Outcome(None, "non_deterministic")
        for one, other in zip(first, second, strict=True)
    ]


def sandbox_layers() -> tuple[str, ...]:
    """The layers of python_sandbox.py that hold on this machine.

    Raises
    ------
    SandboxError
        As of ``run_calls``.
    """
    layers, _ = _talk([], LIMITS, 0, Allowance(LIMITS.batch_seconds), False)
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
    calls: Sequence[Call], limits: PythonLimits, hash_seed: int, allowance: Allowance, all_or_none: bool
) -> tuple[tuple[str, ...], list[Outcome]]:
    """Start a worker, give it the calls, collect its lines; it is gone when this returns.

    Returns the worker's layers and the outcomes of the first calls, at least one if there are any: up to and including
    the one that hung or killed the process, or under ``all_or_none`` the first that failed.
    """
    request = {
        "calls": [{"program": call.program, "arguments": repr(call.arguments)} for call in calls],
        "cpu_seconds": int(limits.seconds * len(calls)) + 2,
        "memory_bytes": limits.memory_bytes,
        "result_chars": limits.result_chars,
    }
    process = start(_MAIN, hash_seed)
    late = False
    outcomes: list[Outcome] = []
    try:
        assert process.stdin is not None
        with process.stdin as stdin:
            stdin.write(json.dumps(request).encode())
        lines = _lines(process, limits, allowance)
        layers = read_layers(next(lines, b""))
        while len(outcomes) < len(calls) and not (all_or_none and outcomes and outcomes[-1].error):
            line = next(lines, None)
            if line is None:
                break
            outcomes.append(_read_outcome(line, limits))
    except BrokenPipeError:
        raise SandboxError("the confined process ended before it read its calls") from None
    except TimeoutError:
        late = True
    finally:
        end(process)
    if len(outcomes) < len(calls) and not (all_or_none and outcomes and outcomes[-1].error):
        spent = late or process.returncode == -signal.SIGXCPU
        outcomes.append(Outcome(None, "time" if spent else "died"))
    return layers, outcomes


def _lines(process: subprocess.Popen[bytes], limits: PythonLimits, allowance: Allowance) -> Iterator[bytes]:
    """The process's lines; each has its own deadline and a bounded length. All but the first are charged.

    Raises
    ------
    SandboxError
        No first line in time.
    TimeoutError
        No further line in time.
    """
    assert process.stdout is not None
    longest = 12 * limits.result_chars + _LINE_OVERHEAD  # JSON writes an emoji in 12 characters
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        held, began, seconds, started = b"", time.monotonic(), START_SECONDS, False
        while len(held) <= longest:
            ready = selector.select(max(0.0, began + seconds - time.monotonic()))
            read = os.read(process.stdout.fileno(), 65536) if ready else b""
            *whole, held = (held + read).split(b"\n")
            if started and (whole or not read):
                allowance.spend(time.monotonic() - began)
            if not ready and not started:
                raise SandboxError(f"the confined process did not start within {START_SECONDS:g} s")
            if not ready:
                raise TimeoutError
            if not read:
                return
            for line in whole:
                yield line
                started, began, seconds = True, time.monotonic(), min(limits.seconds, allowance.left)


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
