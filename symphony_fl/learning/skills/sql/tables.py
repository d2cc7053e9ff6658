"""Small schemas written on one line, and the databases made for judging a query on them.

    singer(id int, name text, age int); concert(id int, singer_id int, title text)

``id`` is 1, 2, ...; ``singer_id`` holds ids of ``singer``. A query is judged on several databases at once, whose rows
are drawn from a hash of schema and gold query and contain the gold query's own constants and their neighbours: two
queries that differ should differ on one of them (test suites after Zhong et al., arXiv 2010.02840, without their
distillation). No row is shown to the model, so that none can be written into an answer.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from symphony_fl.learning.executors.sql import parse

DATABASES = 3
HEADER_CHARS = 400
_NAME = r"[a-z][a-z0-9_]{0,29}"
_TABLE = re.compile(rf"({_NAME})\s*\(([^()]*)\)")
_COLUMN = re.compile(rf"({_NAME})\s+(int|text|real)")
_TYPES = {"int": "INTEGER", "text": "TEXT", "real": "REAL"}
_TABLES, _COLUMNS = range(1, 5), range(2, 9)
_FEWEST_ROWS = 7
_NUMBER = re.compile(r"\d{1,9}(\.\d{0,9})?")

WORDS = (
    "Adler",
    "Birch",
    "Cedar",
    "Delta",
    "Ember",
    "Fjord",
    "Grove",
    "Haven",
    "Iris",
    "Jade",
    "Karst",
    "Lotus",
)


class SchemaError(ValueError):
    """A schema text is not of the form in this file's docstring."""


@dataclass(frozen=True)
class Table:
    """A table's name and its (column, type) pairs."""

    name: str
    columns: tuple[tuple[str, str], ...]


def parse_schema(text: str) -> tuple[Table, ...]:
    """The tables of a one-line schema.

    Raises
    ------
    SchemaError
        It is no such schema, or exceeds 4 tables, 8 columns each or ``HEADER_CHARS``.
    """
    if len(text) > HEADER_CHARS:
        raise SchemaError(f"a schema of {len(text)} characters: at most {HEADER_CHARS}")
    tables = []
    for part in text.strip().rstrip(";").split(";"):
        table = _TABLE.fullmatch(part.strip())
        columns = [_COLUMN.fullmatch(column.strip()) for column in table[2].split(",")] if table else []
        if table is None or not all(columns):
            raise SchemaError(
                f"table {part.strip()[:60]!r}: must read name(column type, ...), types int, text, real"
            )
        tables.append(Table(table[1], tuple((column[1], column[2]) for column in columns if column)))
    names = [table.name for table in tables]
    if len(tables) not in _TABLES or len(set(names)) < len(names):
        raise SchemaError(f"tables {', '.join(names)[:60]}: 1 to 4, none twice")
    for one in tables:
        if len(one.columns) not in _COLUMNS or len(dict(one.columns)) < len(one.columns):
            raise SchemaError(f"table {one.name}: 2 to 8 columns, none twice")
    return tuple(tables)


def schema_text(tables: Sequence[Table]) -> str:
    """The one line that ``parse_schema`` reads."""
    return "; ".join(
        f"{table.name}({', '.join(f'{name} {kind}' for name, kind in table.columns)})" for table in tables
    )


def scripts(tables: Sequence[Table], gold: str) -> list[str]:
    """SQL scripts of the databases on which queries are compared with ``gold``, the same for the same arguments.

    Raises
    ------
    SqlError
        ``gold`` cannot be parsed.
    """
    words, numbers = _constants(gold)
    digest = hashlib.sha256(f"{schema_text(tables)}\n{gold}".encode()).digest()
    # sizes never meet, so that a count is no constant
    return [
        _script(tables, words, numbers, _FEWEST_ROWS + 2 * place, np.random.default_rng([place, *digest[:8]]))
        for place in range(DATABASES)
    ]


def _constants(query: str) -> tuple[list[str], list[int]]:
    """The strings of a query (LIKE's wildcards taken out), and its numbers with their neighbours."""
    from sqlglot import exp

    found = [node for node in parse(query).find_all(exp.Literal)]
    words = sorted({node.this.replace("%", "").replace("_", "") for node in found if node.is_string} - {""})
    whole = sorted({int(float(n.this)) for n in found if not n.is_string and _NUMBER.fullmatch(n.this)})
    return words, [number + step for number in whole for step in (-1, 0, 1)]


def _script(
    tables: Sequence[Table], words: list[str], numbers: list[int], rows: int, rng: np.random.Generator
) -> str:
    """One database, of ``rows`` or one more rows in each table."""
    sizes = {table.name: rows + int(rng.integers(2)) for table in tables}
    lines = []
    for table in tables:
        columns = [
            _values(name, kind, sizes, table.name, words, numbers, rng) for name, kind in table.columns
        ]
        definition = ", ".join(f'"{name}" {_TYPES[kind]}' for name, kind in table.columns)
        lines.append(f'CREATE TABLE "{table.name}" ({definition});')
        values = (f"({', '.join(row)})" for row in zip(*columns, strict=True))
        lines.append(f'INSERT INTO "{table.name}" VALUES {", ".join(values)};')
    return "\n".join(lines)


def _values(
    name: str,
    kind: str,
    sizes: dict[str, int],
    table: str,
    words: list[str],
    numbers: list[int],
    rng: np.random.Generator,
) -> list[str]:
    """One column as SQL literals. Numbers of a column differ, so that orders by it have no ties; text repeats."""
    rows = sizes[table]
    if name == "id":
        return [str(place + 1) for place in range(rows)]
    if name.removesuffix("_id") in sizes and name.endswith("_id"):
        return [str(number) for number in rng.integers(1, sizes[name.removesuffix("_id")] + 1, size=rows)]
    if kind == "text":
        pool = [*WORDS[:6], *(words * 2)]
        return ["'" + str(word).replace("'", "''") + "'" for word in rng.choice(pool, size=rows)]
    low = 1990 if name == "year" else 1
    own = [number for number in dict.fromkeys(numbers) if abs(number - low) < 10_000]
    others = [int(number) for number in rng.permutation(np.arange(low, low + 60)) if number not in own]
    # about half of the rows near the query's constants, the rest anywhere
    own = [own[place] for place in rng.permutation(len(own))][: rows // 2 + 1]
    chosen = rng.permutation([*own, *others[: rows - len(own)]])
    return [
        f"{number}.5" if kind == "real" and place % 2 else str(number) for place, number in enumerate(chosen)
    ]
