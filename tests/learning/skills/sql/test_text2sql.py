"""Text to SQL: generated and Spider questions, databases that tell near misses apart, proposals and their refusals."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from examples import examples
from symphony_fl.learning.executors.sql_guard import SqlLimits
from symphony_fl.learning.skills import SKILLS, ProposalError, ProposingSkill, SkillError, Task
from symphony_fl.learning.skills.datasets.loaders import SHIPPED
from symphony_fl.learning.skills.sql.questions import _TEMPLATES, Question, draw_question
from symphony_fl.learning.skills.sql.spider import SPIDER_SAMPLE, SpiderWorld
from symphony_fl.learning.skills.sql.tables import SchemaError, parse_schema, schema_text, scripts
from symphony_fl.learning.skills.sql.text2sql import QUERY_CHARS, TEXT2SQL, Text2SQL, difficulty_of
from symphony_fl.learning.skills.text import answer_block, question_of
from symphony_fl.learning.tasks.task_sampler import held_out

HEADER = "singer(id int, name text, age int); concert(id int, singer_id int, title text, year int)"
FOLDER = SHIPPED / "spider"
every_skill = pytest.mark.parametrize("skill", (TEXT2SQL, SPIDER_SAMPLE), ids=lambda skill: skill.name)


def asked(query: str) -> Task:
    return TEXT2SQL.task(Question(HEADER, "What?", query), 1)


def test_listed_and_a_proposing_skill() -> None:
    skills: tuple[ProposingSkill, ...] = (TEXT2SQL, SPIDER_SAMPLE)
    assert [SKILLS[skill.name].name for skill in skills] == ["text2sql", "spider_sample"]


@every_skill
def test_tasks_are_right_by_their_own_answers(skill: Text2SQL) -> None:
    rng = np.random.default_rng(0)
    for level in [1, 2, 3] * 10:
        task = skill.generate(rng, level)
        assert task.difficulty == level == difficulty_of(task.answer) and len(task.answer) <= QUERY_CHARS
        assert skill.verify(task, f" {task.answer}\n\nTables: dog(id int)") == 1.0
        assert skill.verify(task, f"Here:\n```sql\n{task.answer};\n```\nDone.") == 1.0
        for wrong in ("", "SELECT 7", "DROP TABLE singer", "I do not know", task.answer + " LIMIT 0"):
            assert skill.verify(task, wrong) == 0.0


def test_templates_are_good_proposals() -> None:
    """Each generated question passes what a model's has to pass: of its level, deterministic, not trivial."""
    rng = np.random.default_rng(2)
    for level in [1, 2, 3] * 25:
        question = draw_question(rng, level)
        line = f"{question.header} | {question.question} | {question.query}"
        assert TEXT2SQL.parse_proposal(line, level).answer == question.query
    assert {len(templates) >= 8 for templates in _TEMPLATES.values()} == {True}


@pytest.mark.parametrize(
    ("gold", "query", "reward"),
    [
        ("SELECT name FROM singer WHERE age > 30", "SELECT s.name FROM singer s WHERE s.age >= 31", 1),
        ("SELECT name FROM singer WHERE age > 30", "SELECT name FROM singer WHERE age >= 30", 0),
        ("SELECT name FROM singer WHERE age > 30", "SELECT name FROM singer WHERE age > 29", 0),
        ("SELECT name FROM singer WHERE name = 'Bo'", "SELECT name FROM singer WHERE name = 'BO'", 0),
        ("SELECT age FROM singer WHERE name LIKE 'B%'", "SELECT age FROM singer WHERE name = 'B'", 0),
        ("SELECT count(*) FROM singer", "SELECT max(id) FROM singer", 1),  # ids are 1, 2, ...
        ("SELECT count(*) FROM singer", "SELECT count(*) FROM concert", 0),
        ("SELECT count(*) FROM singer", "SELECT count(DISTINCT name) FROM singer", 0),
        ("SELECT name FROM singer ORDER BY age", "SELECT name FROM singer ORDER BY age DESC", 0),
        ("SELECT name FROM singer ORDER BY age", "SELECT name FROM singer", 0),
        ("SELECT max(age) FROM singer", "SELECT age FROM singer ORDER BY age DESC LIMIT 1", 1),
        ("SELECT name FROM singer JOIN concert ON singer.id = singer_id",
         "SELECT name FROM singer WHERE id IN (SELECT singer_id FROM concert)", 0),
        ("SELECT title FROM concert WHERE year BETWEEN 2000 AND 2009",
         "SELECT title FROM concert WHERE year >= 2000 AND year < 2010", 1),
        ("SELECT title FROM concert WHERE year BETWEEN 2000 AND 2009",
         "SELECT title FROM concert WHERE year > 2000 AND year <= 2009", 0),
    ],
)  # fmt: skip
def test_judging(gold: str, query: str, reward: float) -> None:
    assert TEXT2SQL.verify(asked(gold), query) == reward


def test_prompt_chat_and_proposal_form() -> None:
    task = asked("SELECT name FROM singer")
    assert question_of(task.prompt) == f"Tables: {HEADER}\nQuestion: What?\nSQL:"
    (message,) = TEXT2SQL.chat(task)
    assert message["role"] == "user" and message["content"].endswith("Question: What?\nSQL:")
    *_, line, last = TEXT2SQL.propose_prompt([task], 1).split("\n")
    assert (line, last) == (f"Task: {HEADER} | What? | SELECT name FROM singer", "Task:")


def test_a_task_that_cannot_be_judged_is_an_error() -> None:
    for broken in (
        asked("SELECT nothing FROM singer"),
        asked("SELECT ("),
        Task("text2sql", "Tables: x", "SELECT 1"),
    ):
        with pytest.raises(SkillError, match="cannot be judged"):
            TEXT2SQL.verify(broken, "SELECT 1")


@pytest.mark.parametrize(
    ("text", "level", "reason"),
    [
        ("", 1, "unparsable"),
        (f"{HEADER} | What are the names? SELECT name FROM singer", 1, "unparsable"),
        ("singer | What are the names? | SELECT name FROM singer", 1, "unparsable"),
        ("singer(id int) | What are the ids? | SELECT id FROM singer", 1, "unparsable"),
        ("singer(id int, id int) | What are the ids? | SELECT id FROM singer", 1, "unparsable"),
        ("s(id int, x blob) | What are the ids? | SELECT id FROM s", 1, "unparsable"),
        (f"{HEADER} | Who? | SELECT name FROM singer", 1, "unparsable"),
        (f"{HEADER} | {'Who? ' * 60} | SELECT name FROM singer", 1, "too_long"),
        (f"{HEADER} | What are the names? | SELECT name FROM singer WHERE {'1 AND ' * 60} 1", 1, "too_long"),
        (f"{HEADER} | What are the names? | SELECT FROM WHERE", 1, "executor"),
        (f"{HEADER} | What are the names? | SELECT nothing FROM singer", 1, "executor"),
        (f"{HEADER} | What is one? | SELECT 1", 1, "executor"),
        (f"{HEADER} | What are the names? | DROP TABLE singer", 1, "refused"),
        (f"{HEADER} | What are the names? | SELECT name FROM singer WHERE random() > 0", 1, "refused"),
        (f"{HEADER} | What are the names? | SELECT name FROM singer", 2, "out_of_bounds"),
        (f"{HEADER} | How many are there? | SELECT count(*) FROM singer", 1, "out_of_bounds"),
        (f"{HEADER} | Name one singer. | SELECT name FROM singer LIMIT 1", 2, "non_deterministic"),
        (f"{HEADER} | What are the names? | SELECT name FROM singer WHERE age > 30 AND age < 30", 1, "trivial"),
        (f"{HEADER} | What is the least id? | SELECT min(id) FROM singer", 2, "trivial"),
        (f"{HEADER} | Who is old? | SELECT name FROM singer WHERE age > 1e400", 1, "trivial"),
        (f"{HEADER} | How many pairs? | SELECT count(*) FROM singer a, singer b, singer c, singer d, singer e, "
         "singer f, singer g, singer h, singer i", 3, "executor"),
    ],
)  # fmt: skip
def test_proposals_that_are_no_tasks(text: str, level: int, reason: str) -> None:
    with pytest.raises(ProposalError) as refused:
        TEXT2SQL.parse_proposal(text, level)
    assert refused.value.reason == reason


words = "singer(id int, name text, age int)|;| | |What is it?|SELECT|name|FROM|singer|WHERE|age|>|3|'|(|)|Task:|```"


def test_any_proposal_is_a_task_or_refused() -> None:
    outcomes: Counter[tuple[str, str]] = Counter()

    @examples(200)
    @given(
        st.text(max_size=60) | st.lists(st.sampled_from([*words.split("|"), "|"]), max_size=16).map(" ".join)
    )
    @example(f"{HEADER} | What are the names? | SELECT name FROM singer")
    @example("ferry_line | What are the names? | SELECT Name FROM ferry")
    def read(text: str) -> None:
        for skill in (TEXT2SQL, SPIDER_SAMPLE):
            try:
                task = skill.parse_proposal(text, 1)
            except ProposalError:
                outcomes[skill.name, "refused"] += 1
                continue
            outcomes[skill.name, "read"] += 1
            assert skill.verify(task, task.answer) == 1.0

    read()
    assert len(outcomes) == 4, outcomes


@examples(50)
@given(st.text(max_size=60))
def test_any_completion_is_judged(text: str) -> None:
    assert TEXT2SQL.verify(asked("SELECT name FROM singer"), text) in (0.0, 1.0)
    answer_block(text)


pieces = st.lists(st.sampled_from(["a(", "x int", ", ", ")", "; ", "b(y text, z real)"])).map("".join)


def test_any_schema_is_read_or_refused() -> None:
    outcomes: Counter[str] = Counter()

    @given(st.text(max_size=60) | pieces)
    @example("a(x int); b(y text, z real)")
    def read(text: str) -> None:
        try:
            tables = parse_schema(text)
        except SchemaError:
            outcomes["refused"] += 1
            return
        outcomes["read"] += 1
        assert parse_schema(schema_text(tables)) == tables
        for script in scripts(tables, "SELECT 'it''s', 3"):
            connection = sqlite3.connect(":memory:")
            connection.executescript(script)
            connection.close()

    read()
    assert outcomes["read"] and outcomes["refused"]


def test_databases_are_the_same_every_time_and_not_each_other() -> None:
    tables = parse_schema(HEADER)
    made = scripts(tables, "SELECT name FROM singer WHERE age > 77 AND name = 'O''Hara'")
    assert made == scripts(tables, "SELECT name FROM singer WHERE age > 77 AND name = 'O''Hara'")
    assert len(set(made)) == 3 and all("'O''Hara'" in script for script in made)
    assert all(", 77," in script or ", 77)" in script for script in made)


def test_enough_can_be_held_out() -> None:
    assert len(held_out(["text2sql"], 60, 5)) == 60


def test_spiders_format() -> None:
    world = SpiderWorld(FOLDER)
    header = world.header("ferry_line")
    assert header == (
        "ferry_line: harbor(Harbor_ID number, Name text, Country text, Depth number); ferry(Ferry_ID number, "
        "Name text, Home_ID number, Seats number, Built number); keys ferry.Home_ID = harbor.Harbor_ID"
    )
    (database,) = world.databases(header, "")
    with database:
        assert database.query("SELECT Name FROM ferry ORDER BY Built LIMIT 1") == [("Puffin",)]
    for place in sorted(FOLDER.glob("database/*/schema.sql")):  # each file is what its script makes
        made = sqlite3.connect(":memory:")
        made.executescript(place.read_text())
        stored = sqlite3.connect(f"file:{place.with_name(place.parent.name + '.sqlite')}?mode=ro", uri=True)
        assert list(made.iterdump()) == list(stored.iterdump())
        made.close()
        stored.close()


def test_every_sample_question_is_a_good_proposal() -> None:
    rows = json.loads((FOLDER / "dev.json").read_text())
    assert len(rows) == 28
    for row in rows:
        line = f"{row['db_id']} | {row['question']} | {row['query']}"
        task = SPIDER_SAMPLE.parse_proposal(line, difficulty_of(row["query"]))
        assert task.origin == "proposed" and SPIDER_SAMPLE.verify(task, row["query"]) == 1.0
    with pytest.raises(ProposalError, match="database '../ferry_line': not in"):
        SPIDER_SAMPLE.parse_proposal("../ferry_line | What are the names? | SELECT Name FROM ferry", 1)


def test_the_datasets_library_reads_the_same_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / "rows").mkdir()
    shutil.copy(FOLDER / "dev.json", tmp_path / "rows" / "validation.json")
    hub, local = SpiderWorld(FOLDER, str(tmp_path / "rows")), SpiderWorld(FOLDER)
    assert [hub.draw(np.random.default_rng(s), 2) for s in range(9)] == [
        local.draw(np.random.default_rng(s), 2) for s in range(9)
    ]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("dev.json", '[{"db_id": "none", "question": "q", "query": "SELECT 1"}]', "db_id 'none' is not in"),
        ("dev.json", '[{"db_id": "ferry_line"}]', "row 0: 'question' must be text"),
        ("dev.json", "{}", "must be a list"),
        ("dev.json", "[]", "no question of difficulty 1"),
        ("tables.json", "[{}]", "not of Spider's format"),
        ("tables.json", "[", "not of Spider's format"),
    ],
)
def test_broken_folders_are_named(tmp_path: Path, name: str, content: str, message: str) -> None:
    shutil.copytree(FOLDER, tmp_path / "spider")
    (tmp_path / "spider" / name).write_text(content)
    with pytest.raises(SkillError, match=message):
        SpiderWorld(tmp_path / "spider").draw(np.random.default_rng(0), 1)


def folder_with(tmp_path: Path, rows: list[tuple[str, str]]) -> Path:
    """A Spider folder of one database, `pub`, with a name that is latin-1 and a table of 6,000 rows."""
    folder = tmp_path / "spider"
    (folder / "database" / "pub").mkdir(parents=True)
    with sqlite3.connect(folder / "database" / "pub" / "pub.sqlite") as made:
        made.execute("CREATE TABLE guest (id INTEGER, name TEXT)")
        made.execute(
            "INSERT INTO guest VALUES (1, CAST(x'4dfc6c6c6572' AS TEXT)), (2, CAST(x'4df66c6c6572' AS TEXT))"
        )
        made.execute("CREATE TABLE visit (id INTEGER)")
        made.executemany("INSERT INTO visit VALUES (?)", [(n,) for n in range(6000)])
    made.close()
    columns = [[-1, "*"], [0, "id"], [0, "name"], [1, "id"]]
    table = {"db_id": "pub", "table_names_original": ["guest", "visit"], "column_names_original": columns,
             "column_types": ["text", "number", "text", "number"], "foreign_keys": []}  # fmt: skip
    (folder / "tables.json").write_text(json.dumps([table]))
    asked = [{"db_id": "pub", "question": question, "query": query} for question, query in rows]
    (folder / "dev.json").write_text(json.dumps(asked))
    return folder


def test_gold_queries_that_end_no_round(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [
        ("Who is there?", "SELECT name FROM guest"),
        ("Which visits?", "SELECT id FROM visit"),
        ("Who?", "SELECT nmae FROM guest"),
        ("Who?", "SELECT name FROM WHERE"),
        ("Who?", "DELETE FROM guest"),
        ("Which pairs?", "SELECT a.id FROM visit a, visit b"),
    ]
    world = SpiderWorld(folder_with(tmp_path, rows))
    skill = Text2SQL("pub", world)
    tasks = {task.answer: task for task in (skill.generate(np.random.default_rng(n), 1) for n in range(40))}
    assert set(tasks) == {"SELECT name FROM guest", "SELECT id FROM visit"} and world.dropped == 4
    assert "nmae" in caplog.text and len(caplog.records) == 4
    names, visits = tasks["SELECT name FROM guest"], tasks["SELECT id FROM visit"]
    assert skill.verify(names, "SELECT name FROM guest") == 1.0
    assert (
        skill.verify(
            names, "SELECT name FROM guest WHERE id = 1 UNION ALL SELECT name FROM guest WHERE id = 1"
        )
        == 0.0
    )
    assert skill.verify(visits, "SELECT v.id FROM visit v") == 1.0
    assert skill.verify(visits, "SELECT v.id FROM visit v WHERE id > 0") == 0.0


def test_a_gold_query_that_is_late_ends_no_round(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = "SELECT count(*) FROM " + ", ".join(f"singer s{n}" for n in range(9))
    monkeypatch.setattr("symphony_fl.learning.skills.sql.text2sql._GOLD_LIMITS", SqlLimits(seconds=0.2))
    assert TEXT2SQL.verify(asked(slow), "SELECT 1") == 0.0


@pytest.mark.parametrize(
    "form", ["`{}`", "SQL: {}", " SQL:{}", "```sql\n{}\n```", "```\nSQL: {};\n```", "SQL: `{}`"]
)
def test_forms_of_an_answer(form: str) -> None:
    assert TEXT2SQL.verify(asked("SELECT name FROM singer"), form.format("SELECT name FROM singer")) == 1.0
    assert TEXT2SQL.verify(asked("SELECT name FROM singer"), form.format("SELECT age FROM singer")) == 0.0


def test_backticks_of_names_stay() -> None:
    assert TEXT2SQL.verify(asked("SELECT name FROM singer"), "SELECT `name` FROM `singer`") == 1.0
