"""Rows of prompts and answers: every metric against values worked out by hand; rows that are none are named."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from symphony_fl.build.checks import check_recipe
from symphony_fl.config.recipe import RecipeError, load_recipe
from symphony_fl.learning.skills.base import SkillError
from symphony_fl.learning.skills.datasets.prompt_answer import METRICS, PromptAnswer

SQUARE = json.dumps([[[2], 4], [[3], 9], [[-1], 1], [[0], 0]])


@pytest.mark.parametrize(
    ("metric", "answer", "completion", "score"),
    [
        ("exact", "Paris", " Paris \nmore", 1.0),
        ("exact", "Paris", "paris", 0.0),
        ("numeric", "1,200", "It is 1200.", 1.0),
        ("numeric", "7", "3 + 4 = 7", 1.0),
        ("numeric", "7", "seven", 0.0),
        ("numeric", "0.5", "1e9", 0.0),
        ("f1", "the red house", "a house red", 1.0),
        ("f1", "red house", "red boat", 0.5),
        ("contains", "42", "so\n42 it is", 1.0),
        ("contains", "42", "so 24", 0.0),
        ("math", "1/2", "0.5", 1.0),
        ("math", "1/2", "0.6", 0.0),
        ("python", SQUARE, "def f(x):\n    return x * x", 1.0),
        ("python", SQUARE, "def f(x):\n    return x + x", 0.5),
        ("python", SQUARE, "import os\ndef f(x):\n    return x * x", 0.0),
    ],
)
def test_metrics(metric: str, answer: str, completion: str, score: float) -> None:
    assert METRICS[metric](answer, completion) == pytest.approx(score)


def _skill(file: Path, metric: str = "exact") -> PromptAnswer:
    return PromptAnswer("mine", str(file), "train", metric, "prompt", "answer", 8)


@pytest.mark.parametrize("ending", ["jsonl", "json", "parquet"])
def test_rows_of_three_formats_are_the_same_tasks(tmp_path: Path, ending: str) -> None:
    rows = [{"prompt": f"p{number}", "answer": str(number), "more": 1} for number in range(3)]
    file = tmp_path / f"rows.{ending}"
    if ending == "parquet":
        from pyarrow import Table, parquet

        parquet.write_table(Table.from_pylist(rows), file)
    else:
        file.write_text(json.dumps(rows) if ending == "json" else "\n".join(map(json.dumps, rows)))
    skill = _skill(file)
    assert [(task.prompt, task.answer, task.skill) for task in skill.tasks] == [
        ("p0", "0", "mine"), ("p1", "1", "mine"), ("p2", "2", "mine"),
    ]  # fmt: skip
    assert {skill.generate(np.random.default_rng(seed)).prompt for seed in range(20)} == {"p0", "p1", "p2"}
    with pytest.raises(SkillError, match="difficulty 2"):
        skill.generate(np.random.default_rng(0), 2)


@pytest.mark.parametrize(
    ("rows", "metric", "said"),
    [
        ([], "exact", "at least one"),
        ([{"prompt": "a", "answer": "1"}] * 2, "exact", "no prompt twice"),
        ([{"prompt": "a"}], "exact", "'answer' must be text"),
        ([{"prompt": "a", "answer": 3}], "exact", "'answer' must be text"),
        ([{"prompt": "a", "answer": " "}], "exact", "an answer is empty"),
        ([{"prompt": "a", "answer": "x"}], "numeric", "holds no number"),
        ([{"prompt": "a", "answer": "x"}], "python", "as JSON"),
        ([{"prompt": "a", "answer": "[[1, 2]]"}], "python", "as JSON"),
    ],
)
def test_rows_that_are_none_are_named(tmp_path: Path, rows: list[object], metric: str, said: str) -> None:
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    with pytest.raises(SkillError, match="rows of 'mine'") as refused:
        _skill(tmp_path / "rows.json", metric).tasks  # noqa: B018
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (
            "{name: other, source: /tmp/x.jsonl}",
            "tasks.rows.name = 'other': must be a word that tasks.skills",
        ),
        ("{name: mine, source: x.jsonl}", "tasks.rows.source = 'x.jsonl': must be a hub dataset"),
        ("{name: mine, source: /no/such.jsonl}", "rows of 'mine'"),
        (
            "{name: mine, source: /tmp/x.jsonl, metric: bleu}",
            "metric = 'bleu': unknown; known: contains, exact",
        ),
        ("{name: mine, sauce: x}", "sauce"),
        (
            "{name: mine, source: /x.jsonl, max_new_tokens: many}",
            "max_new_tokens = 'many': must be an integer",
        ),
    ],
)
def test_a_recipe_of_rows_is_checked_before_anything_starts(rows: str, said: str) -> None:
    with pytest.raises(RecipeError) as refused:
        check_recipe(load_recipe("smoke", ["tasks.skills=[reverse,mine]", f"tasks.rows=[{rows}]"]))
    assert said in str(refused.value)
