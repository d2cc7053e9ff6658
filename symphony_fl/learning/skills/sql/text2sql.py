"""Text to SQL: a question about a database, answered by a query and judged by running it.

The Text2SQL task of section 6.1. Judging by the result is the execution accuracy of Yu et al., "Spider",
arXiv 1809.08887.

    Tables: singer(id int, name text, age int)
    Question: How many singers are older than 30?
    SQL: SELECT count(*) FROM singer WHERE age > 30

Two worlds: small generated schemas (tables.py, questions.py) and Spider's databases (spider.py). A query is
right if its result equals the gold query's on every database of the question (executors/sql.py: when results are
equal). A proposal is one line, ``tables | question | query``. What the query answers is computed; that the question
asks for it cannot be checked here.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from symphony_fl.learning.executors.sql import Database, is_ordered, parse, same_result
from symphony_fl.learning.executors.sql_guard import Row, SqlError, SqlLimits
from symphony_fl.learning.skills.base import ProposalError, ProposalReason, SkillError, Task, draw_difficulty
from symphony_fl.learning.skills.sql.questions import Question, draw_question
from symphony_fl.learning.skills.sql.tables import (
    HEADER_CHARS,
    SchemaError,
    parse_schema,
    schema_text,
    scripts,
)
from symphony_fl.learning.skills.text import BLANK, answer_block, answer_line, question_of

QUESTION_CHARS = range(8, 201)
QUERY_CHARS = 240  # some 80 tokens
_LIMITS = SqlLimits()  # of a completion, and of a gold query first
_GOLD_LIMITS = SqlLimits(seconds=5.0, query_chars=20_000, rows=50_000, result_bytes=4_000_000)
_LARGE_LIMITS = replace(_LIMITS, rows=_GOLD_LIMITS.rows, result_bytes=_GOLD_LIMITS.result_bytes)
_LEVELS = {
    1: "columns and conditions of one table",
    2: "one table with an aggregate, GROUP BY, ORDER BY, LIMIT or DISTINCT",
    3: "a join, a subquery, HAVING or a set operation",
}
_REASONS: dict[str, ProposalReason] = {
    "forbidden": "refused",
    "too_long": "too_long",
    "too_large": "too_long",
}
_EXAMPLES = (
    "Tables: dog(id int, name text, age int)\nQuestion: List the name of each dog with age above 3.\n"
    "SQL: SELECT name FROM dog WHERE age > 3\n\n"
    "Tables: city(id int, name text, people int)\nQuestion: How many cities are there?\n"
    "SQL: SELECT count(*) FROM city\n\n"
    "Tables: club(id int, name text, fee int); member(id int, club_id int, name text, age int)\n"
    "Question: Give the name of the members whose club has fee above 20.\n"
    "SQL: SELECT member.name FROM member JOIN club ON member.club_id = club.id WHERE club.fee > 20\n\n"
)


class World(Protocol):
    """Where questions and databases come from."""

    def draw(self, rng: np.random.Generator, difficulty: int) -> Question: ...

    def header(self, text: str) -> str:
        """The canonical header that a proposal's first field stands for.

        Raises
        ------
        SchemaError
            None.
        """
        ...

    def databases(self, header: str, gold: str) -> list[Database]:
        """The databases a query is compared with ``gold`` on; the caller closes them.

        Raises
        ------
        SchemaError
            No such header.
        SqlError
            ``gold`` cannot be parsed.
        """
        ...


class GeneratedWorld:
    """Small schemas on one line, and several databases made up for every question."""

    def draw(self, rng: np.random.Generator, difficulty: int) -> Question:
        return draw_question(rng, difficulty)

    def header(self, text: str) -> str:
        return schema_text(parse_schema(text))

    def databases(self, header: str, gold: str) -> list[Database]:
        return [Database.from_script(script) for script in scripts(parse_schema(header), gold)]


@dataclass(frozen=True)
class Text2SQL:
    """The skill over one world."""

    name: str
    world: World
    examples: str = _EXAMPLES
    difficulties: range = range(1, 4)
    max_new_tokens: int = 96

    @property
    def computes_answer(self) -> bool:
        """The gold query is the proposal's own: that it answers the question nobody checks."""
        return False

    def generate(self, rng: np.random.Generator, difficulty: int | None = None) -> Task:
        level = draw_difficulty(rng, self.difficulties, difficulty, self.name)
        return self.task(self.world.draw(rng, level), level)

    def task(self, question: Question, difficulty: int, origin: str = "generated") -> Task:
        asked = f"Tables: {question.header}\nQuestion: {question.question}\nSQL:"
        return Task(self.name, self.examples + asked, question.query, difficulty, origin)

    def verify(self, task: Task, completion: str) -> float:
        """1 if the completion's first block is a query with the gold query's results, else 0. 0 as well where the gold
        query itself took too much time or memory now: a busy machine must not end a round.

        Raises
        ------
        SkillError
            The task itself is broken: its tables or its gold query cannot be used.
        """
        header = _read(task)[0]
        query = _query_of(completion)
        with ExitStack() as stack:
            try:
                databases = [stack.enter_context(each) for each in self.world.databases(header, task.answer)]
                gold = [gold_rows(database, task.answer) for database in databases]
                ordered = is_ordered(task.answer)
            except (SchemaError, SqlError) as error:
                if isinstance(error, SqlError) and error.reason in ("time", "memory", "died"):
                    return 0.0
                raise SkillError(f"skill {self.name!r}: a task that cannot be judged: {error}") from None
            try:
                return float(
                    all(
                        same_result(rows, database.query(query, limits), ordered)
                        for database, (rows, limits) in zip(databases, gold, strict=True)
                    )
                )
            except SqlError:
                return 0.0

    def chat(self, task: Task) -> list[dict[str, str]]:
        instruction = (
            "Write one SQLite query that answers the question. Answer with the query and nothing else."
        )
        return [{"role": "user", "content": f"{instruction}{BLANK}{question_of(task.prompt)}"}]

    def propose_prompt(self, examples: Sequence[Task], difficulty: int) -> str:
        """Examples as proposals, one a line; the completion is one more."""
        level = _LEVELS[self._level(difficulty)]
        lines = [f"Write tables, a question about them, and the SQL query that answers it: {level}."]
        for task in examples:
            if task.skill != self.name:
                raise SkillError(f"skill {self.name!r}: an example of skill {task.skill!r}")
            header, question = _read(task)
            lines.append(f"Task: {header} | {question} | {task.answer}")
        return "\n".join([*lines, "Task:"])

    def parse_proposal(self, text: str, difficulty: int) -> Task:
        level = self._level(difficulty)
        fields = answer_line(text).removeprefix("Task:").split("|", 2)
        if len(fields) != 3:
            raise ProposalError("unparsable", "must read tables | question | query")
        header, question, query = (field.strip() for field in fields)
        if len(header) > HEADER_CHARS or len(question) > QUESTION_CHARS[-1] or len(query) > QUERY_CHARS:
            raise ProposalError("too_long", f"{len(header)}, {len(question)}, {len(query)} characters")
        if len(question) not in QUESTION_CHARS or not question.isprintable():
            raise ProposalError(
                "unparsable", f"the question must be {QUESTION_CHARS[0]} printable characters or more"
            )
        try:
            header = self.world.header(header)
            found = difficulty_of(query)
            if found != level:
                raise ProposalError("out_of_bounds", f"a query of difficulty {found}, not {level}")
            self._check_results(header, query)
        except SchemaError as error:
            raise ProposalError("unparsable", str(error)) from None
        except SqlError as error:
            raise ProposalError(_REASONS.get(error.reason, "executor"), str(error)) from None
        return self.task(Question(header, question, query), level, "proposed")

    def _check_results(self, header: str, query: str) -> None:
        """Raises ProposalError or SqlError unless the query's result is one, and depends on the data."""
        results: list[list[Row]] = []
        with ExitStack() as stack:
            for database in [stack.enter_context(each) for each in self.world.databases(header, query)]:
                results.append(database.query(query))
                if not same_result(results[-1], database.query_reversed(query), is_ordered(query)):
                    raise ProposalError(
                        "non_deterministic", "depends on the order of equal or unordered rows"
                    )
        if not any(results):
            raise ProposalError("trivial", "no rows on any database")
        if len(results) > 1 and all(result == results[0] for result in results):
            raise ProposalError("trivial", "the same rows on every database")

    def _level(self, difficulty: int) -> int:
        if difficulty not in self.difficulties:
            first, last = self.difficulties[0], self.difficulties[-1]
            raise SkillError(f"skill {self.name!r}: difficulty {difficulty} is outside {first}..{last}")
        return difficulty


def gold_rows(database: Database, query: str) -> tuple[list[Row], SqlLimits]:
    """The rows of a (trusted) gold query, and the limits that hold for completions compared with them.

    Raises
    ------
    SqlError
        It fails, or exceeds limits that are wider than a completion's.
    """
    try:
        gold = replace(_LIMITS, seconds=_GOLD_LIMITS.seconds, query_chars=_GOLD_LIMITS.query_chars)
        return database.query(query, gold), _LIMITS
    except SqlError as error:
        if error.reason != "too_large":
            raise
    return database.query(query, _GOLD_LIMITS), _LARGE_LIMITS


def _query_of(completion: str) -> str:
    """The query in a completion: without the prompt's last word, should it be repeated, and without quotes."""
    query = answer_block(completion).removeprefix("SQL:").strip()
    quoted = len(query) > 1 and query[0] == query[-1] == "`" and query.count("`") == 2
    return query[1:-1].strip() if quoted else query


def difficulty_of(query: str) -> int:
    """1 to 3, by what the query uses (``_LEVELS``).

    Raises
    ------
    SqlError
        It cannot be parsed, or reads no table.
    """
    from sqlglot import exp

    tree = parse(query)
    if not tree.find(exp.Table):
        raise SqlError("invalid", "reads no table")
    several = len(list(tree.find_all(exp.Select))) > 1 or len(list(tree.find_all(exp.Table))) > 1
    if several or tree.find(exp.Join, exp.Having, exp.SetOperation):
        return 3
    return 2 if tree.find(exp.AggFunc, exp.Group, exp.Order, exp.Limit, exp.Distinct, exp.Window) else 1


def _read(task: Task) -> tuple[str, str]:
    """Header and question of a task."""
    tables, _, rest = question_of(task.prompt).partition("\nQuestion: ")
    return tables.removeprefix("Tables: "), rest.removesuffix("\nSQL:")


TEXT2SQL = Text2SQL("text2sql", GeneratedWorld())
