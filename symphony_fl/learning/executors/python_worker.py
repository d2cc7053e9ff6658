"""The process in which untrusted functions run: reads calls from stdin, confines itself, writes a line per call.

    stdin    {"calls": [{"program": ..., "arguments": "(3, [1, 2])"}, ...], "cpu_seconds": ..., "memory_bytes": ...,
              "result_chars": ...}, to the end of the file
    stdout   {"layers": [...]} once confined, or {"broken": "why not"};
             then, for each call in order, {"value": "repr"} or {"error": "name"}

Programs have passed python_syntax.py before they come here; they see only its builtins and modules.
"""

from __future__ import annotations

import builtins
import importlib
import json
import os
import sys
import types
from collections.abc import Mapping, Sequence

from symphony_fl.learning.executors.python_sandbox import confine
from symphony_fl.learning.executors.python_syntax import BUILTINS, MODULES, is_plain


def main() -> None:
    """Entry point."""
    request = json.loads(sys.stdin.buffer.read())
    scope = builtins_of_programs()  # loads modules, which needs files: before the confinement
    try:
        layers = confine(request["cpu_seconds"], request["memory_bytes"])
    except OSError as error:
        _emit({"broken": str(error)})
        return
    _emit({"layers": layers})
    for call in request["calls"]:
        _emit(_answer(call["program"], call["arguments"], request["result_chars"], scope))


def call_function(program: str, arguments: Sequence[object], scope: Mapping[str, object]) -> object:
    """``f(*arguments)`` of a checked program that sees the builtins of ``scope`` only. Whatever it raises,
    it raises."""
    namespace: dict[str, object] = {"__builtins__": dict(scope), "__name__": "program"}
    exec(compile(program, "program", "exec", dont_inherit=True), namespace)
    function = namespace["f"]
    return function(*arguments)  # type: ignore[operator]


def builtins_of_programs() -> dict[str, object]:
    """The builtins of ``BUILTINS``, and an import that knows only ``MODULES``."""
    modules = {}
    for name, members in MODULES.items():
        module = importlib.import_module(name)
        modules[name] = types.SimpleNamespace(**{member: getattr(module, member) for member in members})

    def import_module(name: str, *_: object) -> types.SimpleNamespace:
        if name not in modules:
            raise ImportError(f"{name} is not allowed")
        return modules[name]

    return {name: getattr(builtins, name) for name in BUILTINS} | {"__import__": import_module}


def _answer(program: str, arguments: str, result_chars: int, scope: Mapping[str, object]) -> dict[str, str]:
    try:
        # the parent wrote this text: the repr of plain values
        value = call_function(program, eval(arguments, {"__builtins__": {}}), scope)
        if not is_plain(value):
            return {"error": f"result of type {type(value).__name__}"}
        text = repr(value)
    except MemoryError:
        return {"error": "memory"}
    except RecursionError:
        return {"error": "recursion"}
    except Exception as error:  # designed loss: the program's own failure is its answer
        return {"error": f"exception {type(error).__name__}"}
    return {"value": text} if len(text) <= result_chars else {"error": "result too long"}


def _emit(line: Mapping[str, object]) -> None:
    os.write(1, json.dumps(line).encode() + b"\n")


if __name__ == "__main__":
    main()
