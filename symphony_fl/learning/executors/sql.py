"""Untrusted SELECTs on a read-only SQLite database, in bounded time and space, and the comparison of their results.

Two walls: a guarded connection (sql_guard.py), in a process that confines itself (sql_worker.py), is given a deadline
and killed when it is late (sql_process.py). Databases of files are trusted; only queries are not. Files are opened
`mode=ro&immutable=1`.

Results are compared by execution accuracy as of Spider (Yu et al., arXiv 1809.08887; the judge as of Zhong
et al., arXiv
2010.02840): multisets of rows, or lists if the *gold* query is ordered. Departures: the column order matters
here (theirs
tries all permutations), column names do not (as theirs), "ordered" means a top-level ORDER BY found by a parser (theirs
searches the text), and numbers are equal to 9 significant digits.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from symphony_fl.learning.executors.sql_guard import Cell, Row, SqlError, SqlLimits
from symphony_fl.learning.executors.sql_process import PROCESS, File

_keys = itertools.count()


class Database:
    """One database to be queried; a context manager."""

    def __init__(self, source: File | str) -> None:
        """``source``: see ``from_file`` and ``from_script``."""
        self._source = source
        self._key = next(_keys)

    @classmethod
    def from_script(cls, script: str) -> Database:
        """In memory, from a *trusted* script of CREATE and INSERT statements. It runs with the first query."""
        return cls(script)

    @classmethod
    def from_file(cls, path: Path) -> Database:
        """A database file, read-only; it must not be changed by anyone while it is open.

        Raises
        ------
        FileNotFoundError
            There is none.
        """
        return cls(File.at(path))

    def __enter__(self) -> Database:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        PROCESS.forget(self._key)

    def query(self, sql: str, limits: SqlLimits = SqlLimits()) -> list[Row]:  # noqa: B008 (frozen)
        """All rows of one SELECT.

        Raises
        ------
        SqlError
            It is not one SELECT, uses what is forbidden, fails, or exceeds a limit.
        SandboxError
            Nothing can be run safely on this machine.
        """
        return self._query(sql, limits, backwards=False)

    def query_reversed(self, sql: str, limits: SqlLimits = SqlLimits()) -> list[Row]:  # noqa: B008 (frozen)
        """As ``query``, with SQLite reading unordered rows backwards: a query whose result this changes has none."""
        return self._query(sql, limits, backwards=True)

    def _query(self, sql: str, limits: SqlLimits, backwards: bool) -> list[Row]:
        if len(sql) > limits.query_chars:
            raise SqlError("too_long", f"{len(sql)} characters, at most {limits.query_chars}")
        if "\0" in sql or any("\ud800" <= letter <= "\udfff" for letter in sql):
            raise SqlError("invalid", "NUL or surrogate in the text")
        return PROCESS.query(self._source, self._key, sql, limits, backwards)


def hold_files(paths: Iterable[Path]) -> None:
    """Have the process that runs queries hold these database files at once: each new one takes a new process.

    Raises
    ------
    FileNotFoundError
        One is not there.
    """
    PROCESS.hold([File.at(path) for path in paths])


def is_ordered(query: str) -> bool:
    """Whether a (trusted or already executed) query has a top-level ORDER BY.

    Raises
    ------
    SqlError
        It cannot be parsed.
    """
    return bool(parse(query).args.get("order"))


def parse(query: str) -> Any:
    """The query as a sqlglot expression.

    Raises
    ------
    SqlError
        It cannot be parsed, or is not a SELECT or a compound of them.
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
