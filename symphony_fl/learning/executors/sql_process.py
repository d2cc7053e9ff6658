"""The parent's side of the SQL worker: one lasting process, killed at a query's deadline, started when needed.

Starting a worker costs some 60 ms of CPU, a query over its pipe some 0.1 ms, so the worker outlives queries. It holds
the files that were asked for, which it must open before it confines itself: a new file, or one that changed, takes a
new worker. Databases of scripts are sent along with their first query.

A worker that ends by itself is replaced and the query asked again, once: it may have been killed for reasons of its
own (CPU seconds of its whole life, the end of the thread that started it), or by the query, which will show. One that
is late, or answers what no worker of ours would, is killed and the query refused.

Safe to share between threads, which take turns. A forked child lets go of its parent's worker and starts its own.
"""

from __future__ import annotations

import atexit
import json
import os
import select
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from symphony_fl.learning.executors.process import START_SECONDS, SandboxError, end, read_layers, start
from symphony_fl.learning.executors.sql_guard import COLUMNS, Cell, Row, SqlError, SqlLimits

GRACE_SECONDS = 0.5  # beyond a query's seconds, for a clean refusal and for the rows' way here
_MAIN = "from symphony_fl.learning.executors.sql_worker import main; main()"
_FILES = 200  # open in a worker at once
_SCRIPTS = 64
_HELLO_BYTES = 4096
_REASONS = frozenset(("forbidden", "time", "memory", "too_large", "invalid"))


@dataclass(frozen=True)
class File:
    """A database file as it was when it was opened: one that is another by now is opened anew."""

    path: Path
    inode: int
    changed: int
    size: int

    @classmethod
    def at(cls, path: Path) -> File:
        """Raises FileNotFoundError where there is none."""
        if not path.is_file():
            raise FileNotFoundError(f"database {path}: no such file")
        status = path.stat()
        return cls(path.resolve(), status.st_ino, status.st_mtime_ns, status.st_size)


class SqlProcess:
    """Runs queries in a confined process."""

    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        """Know of no worker; in a forked child, whose parent keeps it."""
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._files: list[File] = []  # those of the worker, the one used last at the end
        self._keys: dict[File, int] = {}
        self._scripts: list[int] = []  # keys of those that the worker holds
        self._forget: list[int] = []

    def let_go(self) -> None:
        """In a forked child: close the parent's pipes here, so that the worker ends with the parent."""
        if self._process is not None:
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None:
                    pipe.close()
            self._process.returncode = 0  # not this process's child
        self.renew()

    def close(self) -> None:
        """End the worker; the next query starts another."""
        if self._process is not None:
            end(self._process)
        self._process = None
        self._scripts, self._forget = [], []

    def hold(self, files: Sequence[File]) -> None:
        """Have the worker hold these files from its next query on, as far as it may hold so many."""
        with self._lock:
            if not set(files) <= set(self._files):
                self.close()
                paths = {file.path for file in files}
                held = [file for file in self._files if file.path not in paths]
                self._files = [*held, *files][-_FILES:]

    def forget(self, script: int) -> None:
        """A script's database is not needed any more."""
        with self._lock:
            if script in self._scripts:
                self._scripts.remove(script)
                self._forget.append(script)

    def query(
        self, source: File | str, script: int, sql: str, limits: SqlLimits, backwards: bool
    ) -> list[Row]:
        """All rows of one SELECT on a file, or on the script with that key.

        Raises
        ------
        SqlError
            See sql_guard.py; `time` also where the worker had to be killed, `died` where it ended.
        SandboxError
            No worker can be started or confined.
        """
        with self._lock:
            for last in (False, True):
                worker = self._worker(source)
                try:
                    return self._ask(worker, self._request(source, script, sql, limits, backwards), limits)
                except (EOFError, BrokenPipeError):
                    self.close()
                    if last:
                        raise SqlError("died", "the process that ran it ended") from None
        raise AssertionError

    def _worker(self, source: File | str) -> subprocess.Popen[bytes]:
        """The worker, started if there is none or if it does not hold the file."""
        if isinstance(source, File):
            if source in self._files:
                self._files.remove(source)
            elif self._process is not None:
                self.close()
            self._files = [*[held for held in self._files if held.path != source.path][-_FILES + 1 :], source]
        if self._process is None:
            self._process = start(_MAIN)
            try:
                self._greet(self._process)
            except BaseException:
                self.close()
                raise
        return self._process

    def _greet(self, worker: subprocess.Popen[bytes]) -> None:
        for pipe in (worker.stdin, worker.stdout):
            assert pipe is not None
            os.set_blocking(pipe.fileno(), False)
        self._keys = {file: -1 - place for place, file in enumerate(self._files)}
        deadline = time.monotonic() + START_SECONDS
        try:
            _send(worker, {"files": [str(file.path) for file in self._files]}, deadline)
            read_layers(_receive(worker, _HELLO_BYTES, deadline))
        except (EOFError, BrokenPipeError, ValueError):
            raise SandboxError("the confined process ended before it was ready") from None
        except TimeoutError:
            raise SandboxError(f"the confined process did not start within {START_SECONDS:g} s") from None

    def _request(
        self, source: File | str, script: int, sql: str, limits: SqlLimits, backwards: bool
    ) -> dict[str, Any]:
        known = isinstance(source, File) or script in self._scripts
        if not isinstance(source, File):
            self._scripts = [held for held in self._scripts if held != script] + [script]
            self._forget += self._scripts[:-_SCRIPTS]
            del self._scripts[:-_SCRIPTS]
        forget, self._forget = self._forget, []
        return {
            "database": self._keys[source] if isinstance(source, File) else script,
            "script": None if known else source,
            "forget": forget,
            "sql": sql,
            "backwards": backwards,
            "limits": [limits.seconds, limits.query_chars, limits.rows, limits.result_bytes],
        }

    def _ask(self, worker: subprocess.Popen[bytes], request: dict[str, Any], limits: SqlLimits) -> list[Row]:
        # JSON writes an emoji in 12 bytes, and a cell without any in at most 24
        longest = 1024 + 12 * limits.result_bytes + 4 * COLUMNS * limits.rows
        deadline = time.monotonic() + limits.seconds + GRACE_SECONDS
        try:
            _send(worker, request, deadline)
            return _read_answer(_receive(worker, longest, deadline), limits)
        except TimeoutError:
            self.close()
            raise SqlError("time", f"no answer within {limits.seconds:g} s: its process was killed") from None
        except SqlError as error:
            if error.reason == "died":
                self.close()
            raise
        except BaseException:  # a signal's: the answer to come would be taken for the next query's
            self.close()
            raise


def _read_answer(body: bytes, limits: SqlLimits) -> list[Row]:
    """The rows in a message of a process that may have been taken over: nothing in it is believed.

    Raises
    ------
    SqlError
        It is a refusal; `died` if no worker of ours would say so.
    """
    try:
        message = json.loads(body)
        if "error" in message and message["error"] in _REASONS:
            raise SqlError(message["error"], str(message["detail"])[:200])
        rows = [tuple(map(_cell, row)) for row in message["rows"]]
    except SqlError:
        raise
    except (ValueError, TypeError, KeyError, RecursionError, MemoryError):
        raise SqlError("died", "its process answered what is no result") from None
    if len(rows) > limits.rows:
        raise SqlError("died", f"its process answered with {len(rows)} rows")
    return rows


def _cell(value: Any) -> Cell:
    if isinstance(value, dict):
        return bytes.fromhex(value["hex"])
    if value is not None and type(value) not in (int, float, str):
        raise TypeError
    cell: Cell = value
    return cell


def _send(worker: subprocess.Popen[bytes], message: dict[str, Any], deadline: float) -> None:
    """Raises TimeoutError; BrokenPipeError where the process has ended."""
    assert worker.stdin is not None
    body = json.dumps(message).encode()
    view = memoryview(len(body).to_bytes(4, "big") + body)
    while view:
        try:
            view = view[os.write(worker.stdin.fileno(), view) :]
        except BlockingIOError:
            _wait(worker.stdin.fileno(), select.POLLOUT, deadline)


def _receive(worker: subprocess.Popen[bytes], longest: int, deadline: float) -> bytes:
    """The body of the one frame that is due.

    Raises
    ------
    TimeoutError
        It is late.
    EOFError
        The process has ended.
    SqlError
        `died` where the frame is longer than ``longest``, or more comes than one.
    """
    assert worker.stdout is not None
    held, wanted = bytearray(), 4
    while len(held) < wanted:
        _wait(worker.stdout.fileno(), select.POLLIN, deadline)
        read = os.read(worker.stdout.fileno(), 1 << 16)
        if not read:
            raise EOFError
        held += read
        if wanted == 4 and len(held) >= 4:
            wanted += int.from_bytes(held[:4], "big")
        if max(wanted, len(held)) > longest or len(held) > max(4, wanted):
            raise SqlError("died", f"its process answered with {max(wanted, len(held))} bytes")
    return bytes(held[4:])


def _wait(descriptor: int, event: int, deadline: float) -> None:
    """Raises TimeoutError unless the pipe is ready before the deadline."""
    poll = select.poll()
    poll.register(descriptor, event)
    if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
        raise TimeoutError


PROCESS = SqlProcess()
"""The one of this process."""

atexit.register(PROCESS.close)
os.register_at_fork(after_in_child=PROCESS.let_go)
