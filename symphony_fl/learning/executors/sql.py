"""Untrusted SELECTs on a read-only SQLite database, in bounded time and space, and the comparison of their results.

What holds, for any query text:

- It changes nothing and reaches nothing else: an authorizer allows SELECT, READ of the tables that were there at
  opening, RECURSIVE and a list of deterministic functions. ATTACH, PRAGMA, DDL, DML, extensions and the schema tables
  are refused while the query is compiled. Files are opened `mode=ro&immutable=1`, and `query_only` is on.
- It ends: a progress handler stops it after ``seconds``. LIKE is replaced by a linear-time matcher, because
SQLite's own
  backtracks inside one instruction, where no handler is asked.
- It stays small: limits on the query's length and nesting, on cells, rows and the whole result, and SQLite's
  `hard_heap_limit` on what sorting and recursion hold. The heap limit is SQLite's, so it counts *all* SQLite
  connections of this process, and can only be lowered.

What does not: a query runs in this process, so a memory-safety bug of SQLite itself is not contained. Databases of
files are trusted; only queries are not.

Results are compared by execution accuracy as of Spider (Yu et al., arXiv 1809.08887; the judge as of Zhong
et al., arXiv
2010.02840): multisets of rows, or lists if the *gold* query is ordered. Departures: the column order matters
here (theirs
tries all permutations), column names do not (as theirs), "ordered" means a top-level ORDER BY found by a parser (theirs
searches the text), and numbers are equal to 9 significant digits.
"""

from __future__ import annotations

import re
import sqlite3
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

Cell = int | float | str | bytes | None
Row = tuple[Cell, ...]

HEAP_BYTES = 128 * 2**20
_LIKE_PATTERN = 100
_STEPS_BETWEEN_LOOKS = 1000  # virtual machine instructions: well under a millisecond

FUNCTIONS = frozenset(
    "abs avg coalesce count dense_rank first_value group_concat ifnull iif instr lag last_value lead length like lower "
    "ltrim max min ntile nullif rank replace round row_number rtrim substr substring sum total trim upper".split()
)

_LIMITS = {
    sqlite3.SQLITE_LIMIT_LENGTH: 100_000,  # bytes of a cell or a row
    sqlite3.SQLITE_LIMIT_COLUMN: 200,
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
    """A query gave no result. ``reason``: forbidden, time, memory, too_long, too_large, or invalid."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"query refused, {reason}: {detail}")
        self.reason = reason


@dataclass(frozen=True)
class SqlLimits:
    """What one query may cost: wall-clock seconds, characters of text, rows, and bytes of all cells together."""

    seconds: float = 1.0
    query_chars: int = 2000
    rows: int = 5000
    result_bytes: int = 1_000_000


class Database:
    """One guarded connection; a context manager. Used by the thread that opened it."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        """Guards ``connection`` for good; nothing but ``query`` should touch it from here on."""
        self._connection = connection
        tables = connection.execute(
            "SELECT name FROM sqlite_master WHERE type IN ('table', 'view')"
        ).fetchall()
        self.tables = frozenset(name for (name,) in tables if not name.startswith("sqlite_"))
        connection.execute("PRAGMA query_only = ON")
        connection.execute(
            "PRAGMA temp_store = MEMORY"
        )  # spilled rows count against the heap limit, not the disk
        connection.execute(f"PRAGMA hard_heap_limit = {HEAP_BYTES}")
        connection.create_function("like", 2, _like, deterministic=True)
        for limit, value in _LIMITS.items():
            connection.setlimit(limit, value)
        connection.set_authorizer(self._authorize)

    @classmethod
    def from_script(cls, script: str) -> Database:
        """In memory, from a *trusted* script of CREATE and INSERT statements."""
        connection = sqlite3.connect(":memory:", cached_statements=0)
        connection.executescript(script)
        return cls(connection)

    @classmethod
    def from_file(cls, path: Path) -> Database:
        """A database file, read-only; it must not be changed by anyone while it is open.

        Raises:
            FileNotFoundError: there is none.
        """
        if not path.is_file():
            raise FileNotFoundError(f"database {path}: no such file")
        uri = f"{path.resolve().as_uri()}?mode=ro&immutable=1"
        return cls(sqlite3.connect(uri, uri=True, cached_statements=0))

    def __enter__(self) -> Database:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()

    def query(self, sql: str, limits: SqlLimits = SqlLimits()) -> list[Row]:  # noqa: B008 (frozen)
        """All rows of one SELECT.

        Raises:
            SqlError: it is not one SELECT, uses what is forbidden, fails, or exceeds a limit.
        """
        if len(sql) > limits.query_chars:
            raise SqlError("too_long", f"{len(sql)} characters, at most {limits.query_chars}")
        if "\0" in sql or any("\ud800" <= letter <= "\udfff" for letter in sql):
            raise SqlError("invalid", "NUL or surrogate in the text")
        deadline = time.monotonic() + limits.seconds
        self._connection.set_progress_handler(lambda: time.monotonic() > deadline, _STEPS_BETWEEN_LOOKS)
        try:
            cursor = self._connection.execute(sql)
            if cursor.description is None:
                raise SqlError("invalid", "not a query")
            return _fetch(cursor, limits)
        except (sqlite3.Error, sqlite3.Warning) as error:  # Warning: several statements, in Python 3.11
            raise SqlError(_reason(error), str(error)) from None
        except MemoryError:
            raise SqlError("memory", f"SQLite held {HEAP_BYTES} bytes") from None
        finally:
            self._connection.set_progress_handler(None, 0)

    def query_reversed(self, sql: str, limits: SqlLimits = SqlLimits()) -> list[Row]:  # noqa: B008 (frozen)
        """As ``query``, with SQLite reading unordered rows backwards: a query whose result this changes has none."""
        self._connection.set_authorizer(None)
        self._connection.execute("PRAGMA reverse_unordered_selects = ON")
        self._connection.set_authorizer(self._authorize)
        try:
            return self.query(sql, limits)
        finally:
            self._connection.set_authorizer(None)
            self._connection.execute("PRAGMA reverse_unordered_selects = OFF")
            self._connection.set_authorizer(self._authorize)

    def _authorize(self, action: int, first: str | None, second: str | None, *_: str | None) -> int:
        # count(*) reads a table without a column, and is the only read for which a WITH's own table is reported
        internal = first is not None and first.lower().startswith(("sqlite_", "pragma_"))
        allowed = (
            action in (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_RECURSIVE)
            or (action == sqlite3.SQLITE_READ and (first in self.tables or (second == "" and not internal)))
            or (action == sqlite3.SQLITE_FUNCTION and second is not None and second.lower() in FUNCTIONS)
        )
        return sqlite3.SQLITE_OK if allowed else sqlite3.SQLITE_DENY


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


def _like(pattern: Cell, text: Cell) -> bool | None:
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


def is_ordered(query: str) -> bool:
    """Whether a (trusted or already executed) query has a top-level ORDER BY.

    Raises:
        SqlError: it cannot be parsed.
    """
    return bool(parse(query).args.get("order"))


def parse(query: str) -> Any:
    """The query as a sqlglot expression.

    Raises:
        SqlError: it cannot be parsed, or is not a SELECT or a compound of them.
    """
    import sqlglot  # 0.2 s: only where it is used

    try:
        expression = sqlglot.parse_one(query, read="sqlite")
    except (sqlglot.errors.SqlglotError, RecursionError) as error:
        raise SqlError("invalid", str(error).splitlines()[0]) from None
    if not isinstance(expression, sqlglot.exp.Query):
        raise SqlError("forbidden", "not a SELECT")
    return expression


def same_result(gold: Sequence[Row], rows: Sequence[Row], ordered: bool) -> bool:
    """Whether two results are equal: as lists if ``ordered``, as multisets if not."""
    expected, found = ([tuple(map(_canonical, row)) for row in result] for result in (gold, rows))
    return expected == found if ordered else Counter(expected) == Counter(found)


def _canonical(cell: Cell) -> Cell:
    """Numbers to 9 significant digits; whole ones as integers, so that 3 and 3.0 are equal, and '3' is not."""
    if not isinstance(cell, float) or abs(cell) == float("inf"):
        return cell
    rounded = cell if cell.is_integer() else float(f"{cell:.9g}")
    return int(rounded) if rounded.is_integer() else rounded
