"""The SQL judge: equivalent and different queries told apart, and nothing gets out, stays long or grows large."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples import examples
from symphony_fl.learning.executors.sql import Database, is_ordered, parse, same_result
from symphony_fl.learning.executors.sql_guard import SqlError, SqlLimits, like

SCRIPT = """
CREATE TABLE singer (id INTEGER PRIMARY KEY, name TEXT, country TEXT, age INTEGER, height REAL);
CREATE TABLE concert (id INTEGER PRIMARY KEY, singer_id INTEGER, title TEXT, year INTEGER);
INSERT INTO singer VALUES (1,'Ana','Spain',30,1.5),(2,'Bo','Chad',41,1.75),(3,'Cy','Spain',25,1.8),
                          (4,'Di','Peru',41,NULL),(5,'Ed','Spain',30,1.6);
INSERT INTO concert VALUES (1,1,'Sun',2001),(2,1,'Moon',2003),(3,2,'Sun',2003),(4,3,'Rain',1999);
"""

EQUAL = (
    ("SELECT name FROM singer", "SELECT s.name FROM singer AS s"),
    ("SELECT name FROM singer", "SELECT name AS n FROM singer ORDER BY age"),
    ("SELECT count(*) FROM singer", "SELECT count(id) FROM singer;"),
    ("SELECT count(*) FROM singer", "SELECT sum(1.0) FROM singer"),
    ("SELECT avg(age) FROM singer", "SELECT sum(age) * 1.0 / count(age) FROM singer"),
    ("SELECT max(age) FROM singer", "SELECT age FROM singer ORDER BY age DESC LIMIT 1"),
    ("SELECT DISTINCT country FROM singer", "SELECT country FROM singer GROUP BY country"),
    ("SELECT name FROM singer WHERE age >= 30", "SELECT name FROM singer WHERE NOT age < 30"),
    ("SELECT name FROM singer WHERE age BETWEEN 25 AND 30", "SELECT name FROM singer WHERE age>=25 AND age<=30"),
    ("SELECT name FROM singer WHERE country IN ('Spain','Peru')", "SELECT name FROM singer WHERE country<>'Chad'"),
    ("SELECT name FROM singer WHERE name LIKE 'a%'", "SELECT name FROM singer WHERE lower(substr(name,1,1))='a'"),
    ("SELECT name FROM singer WHERE height IS NULL", "SELECT name FROM singer WHERE id = 4"),
    ("SELECT name FROM singer ORDER BY id", "SELECT name FROM singer ORDER BY name"),
    ("SELECT s.name, c.title FROM singer s JOIN concert c ON s.id = c.singer_id",
     "SELECT name, title FROM concert, singer WHERE singer.id = singer_id"),
    ("SELECT name FROM singer WHERE id NOT IN (SELECT singer_id FROM concert)",
     "SELECT name FROM singer EXCEPT SELECT name FROM singer JOIN concert ON singer.id = singer_id"),
    ("SELECT country, count(*) FROM singer GROUP BY country HAVING count(*) > 1", "SELECT 'Spain', 3"),
    ("SELECT name FROM singer WHERE age > (SELECT avg(age) FROM singer)",
     "WITH m AS (SELECT avg(age) AS a FROM singer) SELECT name FROM singer, m WHERE age > a"),
    ("SELECT age FROM singer UNION SELECT year FROM concert",
     "SELECT DISTINCT x FROM (SELECT age AS x FROM singer UNION ALL SELECT year FROM concert)"),
    ("SELECT 0.1 + 0.2", "SELECT 0.3"),
    ("SELECT name FROM singer WHERE 0", "SELECT title FROM concert WHERE year > 3000"),
    ("WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 3) SELECT x FROM n",
     "SELECT id FROM singer WHERE id < 4"),
)  # fmt: skip

DIFFERENT = (
    ("SELECT name FROM singer", "SELECT country FROM singer"),
    ("SELECT name FROM singer", "SELECT name FROM singer LIMIT 4"),
    ("SELECT country FROM singer", "SELECT DISTINCT country FROM singer"),
    ("SELECT name, age FROM singer", "SELECT age, name FROM singer"),
    ("SELECT name FROM singer", "SELECT name, name FROM singer"),
    ("SELECT name FROM singer ORDER BY age DESC, id", "SELECT name FROM singer ORDER BY age, id"),
    ("SELECT name FROM singer ORDER BY name DESC", "SELECT name FROM singer"),
    ("SELECT name FROM singer WHERE age > 30", "SELECT name FROM singer WHERE age >= 30"),
    ("SELECT count(*) FROM singer", "SELECT count(height) FROM singer"),
    ("SELECT count(*) FROM singer", "SELECT '5'"),
    ("SELECT avg(age) FROM singer", "SELECT avg(DISTINCT age) FROM singer"),
    ("SELECT avg(age) FROM singer", "SELECT sum(age) / count(*) FROM singer"),
    ("SELECT max(age) FROM singer", "SELECT min(age) FROM singer"),
    ("SELECT name FROM singer WHERE name LIKE 'a%'", "SELECT name FROM singer WHERE name LIKE '%a%' OR age = 41"),
    ("SELECT name FROM singer WHERE country = 'Spain'", "SELECT name FROM singer WHERE country = 'spain'"),
    ("SELECT s.name FROM singer s JOIN concert c ON s.id = c.singer_id",
     "SELECT name FROM singer WHERE id IN (SELECT singer_id FROM concert)"),
    ("SELECT s.name FROM singer s JOIN concert c ON s.id = c.singer_id",
     "SELECT s.name FROM singer s LEFT JOIN concert c ON s.id = c.singer_id"),
    ("SELECT country, count(*) FROM singer GROUP BY country", "SELECT country, count(*) FROM singer"),
    ("SELECT height FROM singer WHERE id = 4", "SELECT 0"),
    ("SELECT age FROM singer UNION SELECT age FROM singer", "SELECT age FROM singer"),
    ("SELECT 1.0", "SELECT 1.00001"),
)  # fmt: skip

FORBIDDEN = (
    "DROP TABLE singer",
    "DELETE FROM singer",
    "INSERT INTO singer VALUES (9,'x','y',1,1)",
    "UPDATE singer SET age = 1",
    "CREATE TABLE t (x)",
    "CREATE TEMP TABLE t AS SELECT 1",
    "ATTACH DATABASE '/tmp/other.db' AS other",
    "PRAGMA query_only = OFF",
    "PRAGMA hard_heap_limit = 0",
    "BEGIN",
    "SELECT load_extension('x.so')",
    "SELECT random()",
    "SELECT zeroblob(1000000000)",
    "SELECT datetime('now')",
    "SELECT name FROM sqlite_master",
    "SELECT count(*) FROM sqlite_master",
    "SELECT count(*) FROM pragma_table_info('singer')",
    "SELECT * FROM pragma_table_info('singer')",
    "SELECT name FROM singer WHERE name GLOB '*a*'",
)

BOMBS = (
    "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n",
    "WITH RECURSIVE n(x) AS (SELECT 1 UNION SELECT x + 1 FROM n) SELECT x FROM n ORDER BY x DESC",
    "WITH RECURSIVE n(x) AS (SELECT 'a' UNION ALL SELECT x || x FROM n) SELECT length(x) FROM n",
    "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n), "
    "b(s) AS (SELECT replace('aaaaaaaaaaaaaaaaaaaaaaaa', 'a', 'bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb') || x FROM n) "
    "SELECT s FROM b ORDER BY s",
    "SELECT count(*) FROM " + ", ".join(f"singer AS s{i}" for i in range(20)),
    "SELECT * FROM " + ", ".join(f"singer AS s{i}" for i in range(8)),
    "WITH a(x) AS (SELECT replace('{0}', 'a', '{0}')), b(x) AS (SELECT x || x || x || x FROM a) "
    "SELECT x LIKE '%a%a%a%a%a%a%a%b' FROM b".format("a" * 80),
    "SELECT " + "(" * 500 + "1" + ")" * 500,
    "SELECT " + "-" * 0 + "+".join("1" * 500),
    "SELECT " + "abs(" * 200 + "1" + ")" * 200,
)


@pytest.fixture
def database() -> Iterator[Database]:
    with Database.from_script(SCRIPT) as opened:
        yield opened


def judge(database: Database, gold: str, query: str) -> bool:
    return same_result(database.query(gold), database.query(query), is_ordered(gold))


def test_forty_two_pairs() -> None:
    assert len(EQUAL) + len(DIFFERENT) == 42


@pytest.mark.parametrize(("gold", "query"), EQUAL)
def test_equivalent_queries_are_accepted(database: Database, gold: str, query: str) -> None:
    assert judge(database, gold, query)


@pytest.mark.parametrize(("gold", "query"), DIFFERENT)
def test_different_queries_are_told_apart(database: Database, gold: str, query: str) -> None:
    assert not judge(database, gold, query)


@pytest.mark.parametrize("query", FORBIDDEN)
def test_what_is_no_select_of_the_data_is_refused(database: Database, query: str) -> None:
    with pytest.raises(SqlError) as refused:
        database.query(query)
    assert refused.value.reason == "forbidden"
    assert database.query("SELECT count(*) FROM singer") == [(5,)]


@pytest.mark.parametrize("query", BOMBS)
def test_bombs_end_soon(database: Database, query: str) -> None:
    start = time.monotonic()
    try:
        rows = database.query(query, SqlLimits(seconds=0.3))
    except SqlError as error:
        assert error.reason in ("time", "memory", "too_large", "invalid")
    else:
        assert len(rows) == 1
    assert time.monotonic() - start < 3
    assert database.query("SELECT count(*) FROM singer") == [(5,)]


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        (BOMBS[0], "time"),
        ("SELECT a.name FROM singer a, singer b, singer c", "too_large"),
        ("SELECT " + "1," * 2000 + "1", "too_long"),
        ("SELECT 1; SELECT 2", "invalid"),
        ("", "invalid"),
        ("SELECT nothing FROM singer", "invalid"),
        ("SELECT ?", "invalid"),
        ("SELECT '\ud800'", "invalid"),
        ("SELECT 1\0", "invalid"),
    ],
)
def test_the_reason_is_named(database: Database, query: str, reason: str) -> None:
    with pytest.raises(SqlError) as refused:
        database.query(query, SqlLimits(seconds=0.2, rows=100))
    assert refused.value.reason == reason


def test_a_file_is_read_and_not_changed(tmp_path: Path) -> None:
    path = tmp_path / "a b?.sqlite"
    with sqlite3.connect(path) as writing:
        writing.executescript(SCRIPT)
    writing.close()
    before = path.read_bytes()
    with Database.from_file(path) as database:
        assert database.query("SELECT max(age) FROM singer") == [(41,)]
        with pytest.raises(SqlError, match="forbidden"):
            database.query("DELETE FROM singer")
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]
    with pytest.raises(FileNotFoundError, match="none.sqlite"):
        Database.from_file(tmp_path / "none.sqlite")


@given(st.text(alphabet="ab%_.*\n", max_size=8), st.text(alphabet="abAB.*\n", max_size=8))
def test_like_is_sqlites_own(pattern: str, text: str) -> None:
    connection = sqlite3.connect(":memory:")
    assert bool(like(pattern, text)) == bool(
        connection.execute("SELECT ? LIKE ?", (text, pattern)).fetchone()[0]
    )
    connection.close()


@examples(200)
@given(
    st.text(max_size=60)
    | st.lists(st.sampled_from("SELECT * FROM singer WHERE ( ) , 1 'a' id".split())).map(" ".join)
)
def test_any_text_gives_rows_or_a_named_refusal(query: str) -> None:
    with Database.from_script(SCRIPT) as database:
        try:
            database.query(query, SqlLimits(seconds=0.5))
        except SqlError:
            pass
    try:
        parse(query)
    except SqlError:
        pass


@pytest.mark.parametrize(
    ("query", "ordered"),
    [
        ("SELECT a FROM t ORDER BY a", True),
        ("SELECT a FROM t UNION SELECT b FROM t ORDER BY 1", True),
        ("WITH c AS (SELECT 1) SELECT a FROM t ORDER BY a LIMIT 3", True),
        ("SELECT a FROM (SELECT a FROM t ORDER BY a)", False),
        ("SELECT a FROM t WHERE x = 'order by'", False),
        ("SELECT row_number() OVER (ORDER BY a) FROM t", False),
    ],
)
def test_only_a_top_level_order_counts(query: str, ordered: bool) -> None:
    assert is_ordered(query) is ordered


rows = st.lists(
    st.tuples(st.none() | st.integers(-3, 3) | st.sampled_from("ab"), st.floats(-9, 9)), max_size=6
)


@given(rows, st.randoms())
def test_rows_are_a_multiset_unless_ordered(gold: list, random: object) -> None:
    shuffled = random.sample(gold, len(gold))  # type: ignore[attr-defined]
    assert same_result(gold, shuffled, ordered=False)
    assert same_result(gold, shuffled, ordered=True) == (gold == shuffled)
    assert not same_result(gold, [*gold, (0, 0.0)], ordered=False)
