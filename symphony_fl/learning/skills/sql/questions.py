"""Questions about small generated schemas, from templates.

difficulty    the query
1             columns and conditions on one table
2             one table with aggregates, GROUP BY, ORDER BY, LIMIT or DISTINCT
3             joins, subqueries, HAVING, set operations
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from symphony_fl.learning.skills.sql.tables import WORDS, Table, parse_schema, schema_text


@dataclass(frozen=True)
class Question:
    """A schema on one line, a question about it, and the query that answers it."""

    header: str
    question: str
    query: str


# Pairs of tables: the second refers to the first.
_DOMAINS = (
    "singer(id int, name text, country text, age int, albums int); "
    "concert(id int, singer_id int, title text, city text, year int, visitors int)",
    "author(id int, name text, country text, age int, prizes int); "
    "book(id int, author_id int, title text, genre text, pages int, year int)",
    "team(id int, name text, city text, points int, founded int); "
    "player(id int, team_id int, name text, position text, goals int, age int)",
    "farm(id int, name text, region text, hectares int, workers int); "
    "animal(id int, farm_id int, name text, species text, weight int, age int)",
    "store(id int, name text, city text, rent int, staff int); "
    "product(id int, store_id int, name text, color text, price int, stock int)",
    "school(id int, name text, district text, rooms int, teachers int); "
    "student(id int, school_id int, name text, hobby text, grade int, age int)",
    "museum(id int, name text, city text, floors int, visitors int); "
    "painting(id int, museum_id int, title text, style text, price int, year int)",
    "airline(id int, name text, country text, planes int, routes int); "
    "flight(id int, airline_id int, origin text, target text, seats int, minutes int)",
)

# t: a table with text columns a, b and numbers x, y; c: the one that refers to it, with d and z. v, w, n: constants.
_TEMPLATES: dict[int, tuple[tuple[str, str], ...]] = {
    1: (
        ("What is the {x} of each {t}?", "SELECT {x} FROM {t}"),
        ("List the {a} and {x} of all {t}s.", "SELECT {a}, {x} FROM {t}"),
        ("Give the {a} of every {t} with {x} above {v}.", "SELECT {a} FROM {t} WHERE {x} > {v}"),
        ("Give the {a} of every {t} with {x} of at most {v}.", "SELECT {a} FROM {t} WHERE {x} <= {v}"),
        ("What is the {x} of the {t}s whose {a} is {word}?", "SELECT {x} FROM {t} WHERE {a} = '{word}'"),
        ("Give the {a} of the {t}s with {x} between {v} and {w}.", "SELECT {a} FROM {t} WHERE {x} BETWEEN {v} AND {w}"),
        ("Give the {a} of the {t}s with {x} above {v} and {y} below {w}.",
         "SELECT {a} FROM {t} WHERE {x} > {v} AND {y} < {w}"),
        ("What is the {x} of the {t}s whose {b} is not {word}?", "SELECT {x} FROM {t} WHERE {b} != '{word}'"),
    ),
    2: (
        ("How many {t}s are there?", "SELECT count(*) FROM {t}"),
        ("How many {t}s have {x} above {v}?", "SELECT count(*) FROM {t} WHERE {x} > {v}"),
        ("What is the average {x} of all {t}s?", "SELECT avg({x}) FROM {t}"),
        ("What are the smallest and the largest {x} of all {t}s?", "SELECT min({x}), max({x}) FROM {t}"),
        ("What is the total {x} of the {t}s whose {a} is {word}?", "SELECT sum({x}) FROM {t} WHERE {a} = '{word}'"),
        ("How many {t}s are there of each {b}?", "SELECT {b}, count(*) FROM {t} GROUP BY {b}"),
        ("What is the average {x} of the {t}s of each {b}?", "SELECT {b}, avg({x}) FROM {t} GROUP BY {b}"),
        ("What are the different {b}s of {t}s?", "SELECT DISTINCT {b} FROM {t}"),
        ("List the {a} of all {t}s from the largest to the smallest {x}.", "SELECT {a} FROM {t} ORDER BY {x} DESC"),
        ("Give the {a} of the {n} {t}s with the smallest {x}.", "SELECT {a} FROM {t} ORDER BY {x} LIMIT {n}"),
    ),
    3: (
        ("List the {a} of each {t} with the {d} of its {c}s.",
         "SELECT {t}.{a}, {c}.{d} FROM {t} JOIN {c} ON {t}.id = {c}.{t}_id"),
        ("Give the {d} of the {c}s whose {t} has {x} above {v}.",
         "SELECT {c}.{d} FROM {c} JOIN {t} ON {c}.{t}_id = {t}.id WHERE {t}.{x} > {v}"),
        ("How many {c}s belong to the {t}s whose {a} is {word}?",
         "SELECT count(*) FROM {c} JOIN {t} ON {c}.{t}_id = {t}.id WHERE {t}.{a} = '{word}'"),
        ("Give the {a} of the {t}s without any {c}.", "SELECT {a} FROM {t} WHERE id NOT IN (SELECT {t}_id FROM {c})"),
        ("Give the {a} of the {t}s with {x} above the average.",
         "SELECT {a} FROM {t} WHERE {x} > (SELECT avg({x}) FROM {t})"),
        ("Which {b}s have more than {n} {t}s?", "SELECT {b} FROM {t} GROUP BY {b} HAVING count(*) > {n}"),
        ("What is the total {z} of the {c}s of each {t}, by id?",
         "SELECT {t}.id, sum({c}.{z}) FROM {t} JOIN {c} ON {t}.id = {c}.{t}_id GROUP BY {t}.id"),
        ("Give the {d} of the {c} with the largest {z}.", "SELECT {d} FROM {c} WHERE {z} = (SELECT max({z}) FROM {c})"),
    ),
}  # fmt: skip


def draw_question(rng: np.random.Generator, difficulty: int) -> Question:
    """One of the templates about one of the pairs of tables, columns and constants drawn anew."""
    parent, child = parse_schema(_DOMAINS[rng.integers(len(_DOMAINS))])
    parent, child = _shuffled(parent, rng), _shuffled(child, rng)
    # the second table alone is as good a subject as the first, but only the first is referred to
    subject = child if difficulty < 3 and rng.random() < 0.5 else parent
    question, query = _TEMPLATES[difficulty][rng.integers(len(_TEMPLATES[difficulty]))]
    a, b = _columns(subject, "text", rng)
    x, y = _columns(subject, "int", rng)
    low = 2000 if "year" in (x, y) else 10
    v = int(rng.integers(low, low + 30))
    slots = {
        "t": subject.name, "a": a, "b": b, "x": x, "y": y, "v": v, "w": v + int(rng.integers(3, 15)),
        "n": int(rng.integers(1, 4)), "word": str(rng.choice(WORDS)),
        "c": child.name, "d": _columns(child, "text", rng)[0], "z": _columns(child, "int", rng)[0],
    }  # fmt: skip
    return Question(schema_text((parent, child)), question.format(**slots), query.format(**slots))


def _columns(table: Table, kind: str, rng: np.random.Generator) -> tuple[str, str]:
    """Two different columns of that type, in chance order; keys are none."""
    names = [name for name, its in table.columns if its == kind and not name.endswith("id")]
    first, second = rng.permutation(len(names))[:2]
    return names[first], names[second]


def _shuffled(table: Table, rng: np.random.Generator) -> Table:
    """The table with its columns behind the keys in another order."""
    keys = [column for column in table.columns if column[0].endswith("id")]
    rest = [column for column in table.columns if column not in keys]
    return Table(table.name, (*keys, *(rest[place] for place in rng.permutation(len(rest)))))
