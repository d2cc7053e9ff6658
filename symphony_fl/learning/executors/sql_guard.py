"""One guarded SQLite connection: what a query may use, and what it may cost. Runs in the process of sql_worker.py.

What holds, for any query text:

- It changes nothing and reaches nothing else: an authorizer allows SELECT, READ of the tables that were there at
  opening, RECURSIVE and a list of deterministic functions. ATTACH, PRAGMA, DDL, DML, extensions and the schema tables
  are refused while the query is compiled. EXPLAIN is refused by the columns of its result, which no authorizer sees.
- It stays small: limits on the query's length and nesting, on cells, rows and the whole result, and SQLite's
  `hard_heap_limit` on what sorting and recursion hold. The heap limit is SQLite's, so it counts *all* SQLite
  connections of the process, and can only be lowered.
- Most queries end in time by themselves: a progress handler stops them, and LIKE is a linear-time matcher that looks
  at the clock. One instruction that takes long is not stopped here; whoever asked kills the process.
"""

from __future__ import annotations

import functools
import re
import sqlite3
import time
from dataclasses import dataclass

Cell = int | float | str | bytes | None
Row = tuple[Cell, ...]

HEAP_BYTES = 128 * 2**20
COLUMNS = 200
_LIKE_PATTERN = 100
_STEPS_BETWEEN_LOOKS = 1000  # virtual machine instructions: well under a millisecond

FUNCTIONS = frozenset(
    "abs avg coalesce count dense_rank first_value group_concat ifnull iif instr lag last_value lead length like lower "
    "ltrim max min ntile nullif rank replace round row_number rtrim substr substring sum total trim upper".split()
)

_LIMITS = {
    sqlite3.SQLITE_LIMIT_LENGTH: 100_000,  # bytes of a cell or a row
    sqlite3.SQLITE_LIMIT_COLUMN: COLUMNS,
    sqlite3.SQLITE_LIMIT_EXPR_DEPTH: 50,
    sqlite3.SQLITE_LIMIT_COMPOUND_SELECT: 10,
    sqlite3.SQLITE_LIMIT_VDBE_OP: 50_000,
    sqlite3.SQLITE_LIMIT_FUNCTION_ARG: 16,
    sqlite3.SQLITE_LIMIT_ATTACHED: 0,
    sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER: 0,
    sqlite3.SQLITE_LIMIT_TRIGGER_DEPTH: 0,
    sqlite3.SQLITE_LIMIT_WORKER_THREADS: 0,
}


class SqlError(ValueError):
    """A query gave no result. ``reason``: forbidden, time, memory, too_long, too_large, invalid, or died."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"query refused, {reason}: {detail}")
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True)
class SqlLimits:
    """What one query may cost: wall-clock seconds, characters of text, rows, and bytes of all cells together."""

    seconds: float = 1.0
    query_chars: int = 2000
    rows: int = 5000
    result_bytes: int = 1_000_000


class Guard:
    """Guards ``connection`` for good; nothing else should touch it from here on."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._deadline = 0.0
        tables = connection.execute(
            "SELECT name FROM sqlite_master WHERE type IN ('table', 'view')"
        ).fetchall()
        self._tables = frozenset(name for (name,) in tables if not name.startswith("sqlite_"))
        connection.execute("PRAGMA query_only = ON")
        connection.execute(
            "PRAGMA temp_store = MEMORY"
        )  # spilled rows count against the heap limit, not the disk
        connection.execute(f"PRAGMA hard_heap_limit = {HEAP_BYTES}")
        connection.create_function("like", 2, self._like, deterministic=True)
        connection.text_factory = _text
        for limit, value in _LIMITS.items():
            connection.setlimit(limit, value)
        connection.set_authorizer(self._authorize)

    def close(self) -> None:
        self._connection.close()

    def shrink(self) -> None:
        """Give back the memory of pages that were read."""
        self._trusted("PRAGMA shrink_memory")

    def query(self, sql: str, limits: SqlLimits, backwards: bool) -> list[Row]:
        """All rows of one SELECT; ``backwards``: SQLite reads unordered rows in the other direction.

        Raises
        ------
        SqlError
            It is not one SELECT, uses what is forbidden, fails, or exceeds a limit.
        """
        if backwards:
            self._trusted("PRAGMA reverse_unordered_selects = ON")
        self._deadline = time.monotonic() + limits.seconds
        self._connection.set_progress_handler(self._is_late, _STEPS_BETWEEN_LOOKS)
        try:
            cursor = self._connection.execute(sql)
            if cursor.description is None:
                raise SqlError("invalid", "not a query")
            if cursor.description in _explained():
                raise SqlError("forbidden", "EXPLAIN")
            return _fetch(cursor, limits)
        except (sqlite3.Error, sqlite3.Warning) as error:  # Warning: several statements, in Python 3.11
            raise SqlError(_reason(error), str(error)) from None
        except MemoryError:
            raise SqlError("memory", f"SQLite held {HEAP_BYTES} bytes") from None
        finally:
            self._connection.set_progress_handler(None, 0)
            if backwards:
                self._trusted("PRAGMA reverse_unordered_selects = OFF")

    def _trusted(self, statement: str) -> None:
        self._connection.set_authorizer(None)
        self._connection.execute(statement)
        self._connection.set_authorizer(self._authorize)

    def _is_late(self) -> bool:
        return time.monotonic() > self._deadline

    def _like(self, pattern: Cell, text: Cell) -> bool | None:
        if self._is_late():  # a thousand instructions may be as many calls of this
            self._connection.interrupt()
        return like(pattern, text)

    def _authorize(self, action: int, first: str | None, second: str | None, *_: str | None) -> int:
        # count(*) reads a table without a column, and is the only read for which a WITH's own table is reported
        internal = first is not None and first.lower().startswith(("sqlite_", "pragma_"))
        allowed = (
            action in (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_RECURSIVE)
            or (action == sqlite3.SQLITE_READ and (first in self._tables or (second == "" and not internal)))
            or (action == sqlite3.SQLITE_FUNCTION and second is not None and second.lower() in FUNCTIONS)
        )
        return sqlite3.SQLITE_OK if allowed else sqlite3.SQLITE_DENY


@functools.cache
def _explained() -> tuple[object, ...]:
    """The columns of EXPLAIN and of EXPLAIN QUERY PLAN, in this version of SQLite."""
    connection = sqlite3.connect(":memory:")
    found = tuple(
        connection.execute(f"{words} SELECT 1").description for words in ("EXPLAIN", "EXPLAIN QUERY PLAN")
    )
    connection.close()
    return found


def _text(data: bytes) -> str:
    """Text that is not UTF-8, as old databases hold, stays comparable: each such byte becomes a character."""
    return data.decode("utf-8", "surrogateescape")


def _reason(error: Exception) -> str:
    text = str(error)
    if "interrupted" in text:
        return "time"
    if "not authorized" in text or "prohibited" in text:
        return "forbidden"
    return "too_large" if "too big" in text else "invalid"


def _fetch(cursor: sqlite3.Cursor, limits: SqlLimits) -> list[Row]:
    rows: list[Row] = []
    size = 0
    for row in cursor:
        size += sum(len(cell) if isinstance(cell, (str, bytes)) else 8 for cell in row)
        if len(rows) == limits.rows or size > limits.result_bytes:
            raise SqlError("too_large", f"over {limits.rows} rows or {limits.result_bytes} bytes")
        rows.append(row)
    return rows


def like(pattern: Cell, text: Cell) -> bool | None:
    """SQLite's LIKE: % any text, _ one character, ASCII letters in either case. Linear for a pattern's length.

    Between two % the leftmost match of each piece is as good as any, so nothing is ever tried twice.
    """
    if pattern is None or text is None:
        return None
    if len(str(pattern)) > _LIKE_PATTERN:
        raise ValueError("LIKE pattern too long")
    pieces = [re.escape(piece).replace("_", ".") for piece in str(pattern).split("%")]
    first, *rest = (re.compile(piece, re.IGNORECASE | re.ASCII | re.DOTALL) for piece in pieces)
    subject = str(text)
    if not rest:
        return first.fullmatch(subject) is not None
    found = first.match(subject)
    for piece in rest[:-1]:
        found = found and piece.search(subject, found.end())
    # a piece without % has one length, that of its pattern: the last one must end where the text ends
    tail = len(str(pattern)) - str(pattern).rindex("%") - 1
    return found is not None and bool(
        len(subject) - tail >= found.end() and rest[-1].fullmatch(subject, len(subject) - tail)
    )
