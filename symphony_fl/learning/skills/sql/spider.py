"""Spider's questions and databases (Yu et al., arXiv 1809.08887) as a world of the text2sql skill.

A Spider folder holds

    dev.json                        rows with db_id, question, query
    tables.json                     per db_id: table_names_original, column_names_original, column_types, foreign_keys
    database/<db_id>/<db_id>.sqlite

The hub has the rows (`xlangai/spider`) but not the databases, which are always read from the folder. A question is
judged on its one database, as Spider does. Rows whose own query gives no result there (a misspelt column, too many
rows) are left out when the folder is read, and said. Slow ones stay: how long a query takes depends on the machine.
"""

from __future__ import annotations

import json
import logging
import re
from dataclasses import replace
from pathlib import Path

import numpy as np

from symphony_fl.learning.executors.sql import Database, hold_files
from symphony_fl.learning.executors.sql_guard import SqlError
from symphony_fl.learning.skills.base import SkillError
from symphony_fl.learning.skills.datasets.loaders import SHIPPED
from symphony_fl.learning.skills.datasets.text_rows import read_rows
from symphony_fl.learning.skills.sql.questions import Question
from symphony_fl.learning.skills.sql.tables import SchemaError
from symphony_fl.learning.skills.sql.text2sql import Text2SQL, difficulty_of, gold_rows

_LOG = logging.getLogger(__name__)
_TYPES = {"text": "text", "number": "number", "time": "time", "boolean": "boolean", "others": "other"}
_DB_ID = re.compile(r"[A-Za-z0-9_]+")


class SpiderWorld:
    """Rows and databases of a Spider folder; read when first asked."""

    def __init__(self, folder: Path, rows: str | Path | None = None, split: str = "validation") -> None:
        """``rows`` is a `.json` file or a hub name; by default the folder's dev.json."""
        self.folder = folder
        self._source = folder / "dev.json" if rows is None else rows
        self._split = split
        self._headers: dict[str, str] = {}
        self._levels: dict[int, list[Question]] = {}
        self.dropped = 0  # rows that cannot be judged, once the folder is read

    def draw(self, rng: np.random.Generator, difficulty: int) -> Question:
        self._load()
        questions = self._levels.get(difficulty, [])
        if not questions:
            raise SkillError(f"{self.folder}: no question of difficulty {difficulty}")
        return questions[rng.integers(len(questions))]

    def header(self, text: str) -> str:
        self._load()
        name = text.partition(":")[0].strip()
        if name not in self._headers:
            raise SchemaError(f"database {name[:60]!r}: not in {self.folder / 'tables.json'}")
        return self._headers[name]

    def databases(self, header: str, gold: str) -> list[Database]:
        name = self.header(header).partition(":")[0]  # a name of tables.json, so it leads to no other folder
        return [Database.from_file(self._file(name))]

    def _file(self, name: str) -> Path:
        return self.folder / "database" / name / f"{name}.sqlite"

    def _load(self) -> None:
        """Read the folder once.

        Raises
        ------
        SkillError
            A file is not of Spider's format, or a question is about a database that is unknown or missing.
        """
        if self._levels:
            return
        self._headers = _read_headers(self.folder / "tables.json")
        rows = read_rows(self._source, self._split, ("db_id", "question", "query"))
        for row in rows:
            if row["db_id"] not in self._headers:
                raise SkillError(f"{self._source}: db_id {row['db_id']!r} is not in tables.json")
        try:
            hold_files(self._file(name) for name in dict.fromkeys(row["db_id"] for row in rows))
        except FileNotFoundError as error:
            raise SkillError(f"{self.folder}: {error}") from None
        levels: dict[int, list[Question]] = {}
        for row in rows:
            query = row["query"].strip()
            try:
                with Database.from_file(self._file(row["db_id"])) as database:
                    _run(database, query)
                level = difficulty_of(query)
            except SqlError as error:
                self.dropped += 1
                _LOG.warning("%s: left out, %s: %.200s", self._source, error, query)
                continue
            question = Question(self._headers[row["db_id"]], row["question"].strip(), query)
            levels.setdefault(level, []).append(question)
        self._levels = levels


def _run(database: Database, query: str) -> None:
    """Raises SqlError if the query gives no result on any machine."""
    try:
        gold_rows(database, query)
    except SqlError as error:
        if error.reason not in ("time", "died"):
            raise


def with_folder(skill: Text2SQL, folder: Path, split: str) -> Text2SQL:
    """The same skill over the questions in ``folder/split.json`` and the folder's databases.

    Raises
    ------
    SkillError
        A file or the folder of databases is not there.
    """
    for part in (f"{split}.json", "tables.json", "database"):
        if not (folder / part).exists():
            raise SkillError(f"folder {folder}: no {part} in it")
    return replace(skill, world=SpiderWorld(folder, rows=folder / f"{split}.json"))


def _read_headers(path: Path) -> dict[str, str]:
    """``db_id: table(column type, ...); ...; keys a.x = b.y`` of every database.

    Raises
    ------
    SkillError
        Not of Spider's format.
    """
    try:
        return {entry["db_id"]: _header(entry) for entry in json.loads(path.read_text(encoding="utf-8"))}
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise SkillError(f"{path}: not of Spider's format: {type(error).__name__}: {error}") from None


def _header(entry: dict) -> str:
    if not _DB_ID.fullmatch(entry["db_id"]):
        raise ValueError(f"db_id {entry['db_id']!r}: letters, digits and _ only")
    tables, columns = entry["table_names_original"], entry["column_names_original"]
    held: list[list[str]] = [[] for _ in tables]
    for (table, column), kind in zip(columns, entry["column_types"], strict=True):
        if table >= 0:  # the first column is *, of no table
            held[table].append(f"{column} {_TYPES[kind]}")
    parts = [f"{name}({', '.join(own)})" for name, own in zip(tables, held, strict=True)]
    keys = [
        " = ".join(f"{tables[columns[i][0]]}.{columns[i][1]}" for i in pair) for pair in entry["foreign_keys"]
    ]
    return f"{entry['db_id']}: {'; '.join(parts)}" + (f"; keys {', '.join(keys)}" if keys else "")


_EXAMPLES = (
    "Tables: zoo: animal(id number, name text, age number)\nQuestion: How many animals are older than 3?\n"
    "SQL: SELECT count(*) FROM animal WHERE age > 3\n\n"
)

SPIDER_SAMPLE = Text2SQL("spider_sample", SpiderWorld(SHIPPED / "spider"), _EXAMPLES)
"""Questions of our own in Spider's format. For Spider itself: ``with_folder``, or a recipe's ``tasks.sources``."""
