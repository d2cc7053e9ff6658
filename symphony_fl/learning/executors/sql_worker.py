"""The process in which untrusted queries run: opens database files, confines itself, answers until its input ends.

A frame is the length of its body, 4 bytes, and the body, JSON.

    first in    {"files": [path, ...]}
    first out   {"layers": [...]} once confined, or {"broken": "why not"}
    then in     {"database": key, "script": text or null, "forget": [key, ...], "sql": text, "backwards": bool,
                 "limits": [seconds, query_chars, rows, result_bytes]}
    and out     {"rows": [[cell, ...], ...]} or {"error": reason, "detail": text}; bytes are {"hex": text}

Keys of files are their places in the list, from -1 downwards; those of scripts are 0 and above.
"""

from __future__ import annotations

import json
import os
import sqlite3
import sys
from pathlib import Path
from typing import Any

from symphony_fl.learning.executors.python_sandbox import READ_FILES, confine
from symphony_fl.learning.executors.sql_guard import HEAP_BYTES, Guard, SqlError, SqlLimits

_CPU_SECONDS = 600  # of the whole process; one that has used them up is replaced by the next
_MEMORY_BYTES = HEAP_BYTES + 256 * 2**20  # the interpreter, the rows and their text


def main() -> None:
    """Entry point."""
    databases = _open_files(json.loads(_read_frame())["files"])
    try:
        layers = confine(_CPU_SECONDS, _MEMORY_BYTES, READ_FILES)
    except OSError as error:
        _write_frame({"broken": str(error)})
        return
    _write_frame({"layers": layers})
    last = 0
    while body := _read_frame():
        request = json.loads(body)
        for key in request["forget"]:
            forgotten = databases.pop(key)
            if isinstance(forgotten, Guard):
                forgotten.close()
        key = request["database"]
        before = databases.get(last)
        if last < 0 and key != last and isinstance(before, Guard):
            before.shrink()  # the pages of many files would fill the heap
        if request["script"] is not None:
            databases[key] = _run_script(request["script"])
        database = databases[key]
        if isinstance(database, Guard):
            last = key
            _write_frame(_answer(database, request))
        else:
            _write_frame({"error": "invalid", "detail": database[:200]})


def _open_files(paths: list[str]) -> dict[int, Guard | str]:
    """The databases by key, or what is wrong with them."""
    databases = dict[int, Guard | str]()
    for place, path in enumerate(paths):
        try:
            uri = f"{Path(path).as_uri()}?mode=ro&immutable=1"
            databases[-1 - place] = Guard(sqlite3.connect(uri, uri=True, cached_statements=0))
        except sqlite3.Error as error:
            databases[-1 - place] = f"database {path}: {error}"
    return databases


def _run_script(script: str) -> Guard | str:
    """The database it makes, or what is wrong with it."""
    connection = sqlite3.connect(":memory:", cached_statements=0)
    try:
        connection.executescript(script)
        return Guard(connection)
    except sqlite3.Error as error:
        connection.close()
        return f"script: {error}"


def _answer(database: Guard, request: dict[str, Any]) -> dict[str, Any]:
    try:
        return {"rows": database.query(request["sql"], SqlLimits(*request["limits"]), request["backwards"])}
    except SqlError as error:
        return {"error": error.reason, "detail": error.detail[:200]}


def _write_frame(message: dict[str, Any]) -> None:
    try:
        body = json.dumps(message, default=_hex).encode()
    except MemoryError:
        body = json.dumps({"error": "memory", "detail": "the result's text"}).encode()
    view = memoryview(len(body).to_bytes(4, "big") + body)
    while view:
        view = view[os.write(1, view) :]


def _hex(cell: bytes) -> dict[str, str]:
    return {"hex": cell.hex()}


def _read_frame() -> bytes:
    """The next body; empty at the end of the input."""
    head = sys.stdin.buffer.read(4)
    return sys.stdin.buffer.read(int.from_bytes(head, "big")) if len(head) == 4 else b""


if __name__ == "__main__":
    main()
