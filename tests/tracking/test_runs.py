"""Comparisons and dashboards out of a tracking store say what the runs' own results say."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from empty_store import empty_store

from symphony_fl.cli.main import main
from symphony_fl.config.recipe import RecipeError, load_recipe
from symphony_fl.reports.tables import comparison_table
from symphony_fl.tracking.mlflow_store import find_runs, metric_series
from symphony_fl.tracking.runs import stored_rows
from symphony_fl.tracking.tracker import RESULTS, Tracker

RUNS = [  # recipe, overrides, status, accuracy, bytes
    ("default", ["seed=0"], "FINISHED", 0.1 + 0.2, 54_321.0),
    ("default", ["seed=1"], "FINISHED", 0.9051234567890123, 54_323.5),
    ("fedavg", ["seed=0"], "FINISHED", 0.91, 3_137_000.0),
    ("fedavg", ["seed=1"], "FAILED", None, 0.0),
    ("isolated", ["seed=0", "rounds=3"], "FINISHED", 0.5, 0.0),
    ("isolated", ["seed=0", "rounds=4"], "FINISHED", 0.6, 0.0),
    (
        "isolated",
        ["seed=0", "rounds=4", "tracking.agents=false"],
        "FINISHED",
        0.7,
        0.0,
    ),  # the same, done again
]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, list[dict[str, Any]]]:
    """A store, and the results of the runs in it as `compare` would have them."""
    folder = tmp_path_factory.mktemp("store")
    uri = empty_store(folder)
    results = []
    for number, (name, overrides, status, accuracy, size) in enumerate(RUNS):
        recipe = load_recipe(name, [*overrides, "agents=2", "tracking.agents=false"])
        run = folder / f"run{number}"
        run.mkdir()
        tracker = Tracker(uri, recipe, run.name, run)
        for round in (0, 1, 2):
            tracker.run(
                round, {"accuracy/mean": round / 4, "bytes/sent": 1000.0 * round, "reward/local": 0.5}
            )
        result = {
            "recipe": recipe.name,
            "seed": recipe.seed,
            "status": "completed" if status == "FINISHED" else "failed",
            "accuracy_before": 1 / 3 if accuracy else None,
            "accuracy_after": accuracy,
            "accuracy_min_agent": accuracy and accuracy - 0.01,
            "bytes_sent_per_agent": size,
            "bytes_received_per_agent": size / 3,
            "bytes_superlink_per_agent": size * 2,
            "rounds": 2,
            "seconds": 12.345 + number,
            "runtime": "in-process",
        }
        tracker.result(result)
        tracker.finish(status)
        results.append(result)
    return uri, results


def test_the_table_is_compares_own_to_the_last_character(made: tuple[str, list[dict[str, Any]]]) -> None:
    uri, results = made
    rows = stored_rows(uri, "symphony-fl", ["default", "fedavg"])
    assert len(rows) == 4
    for row, result in zip(rows, results, strict=False):
        assert {name: row[name] for name in (*RESULTS[:-1], "recipe", "seed", "status", "runtime")} == result
    assert comparison_table(rows) == comparison_table(results[:4])
    assert "1 (1 failed)" in comparison_table(rows) and "±" in comparison_table(rows)


def test_runs_are_chosen_by_recipe_setting_tag_and_seed(made: tuple[str, list[dict[str, Any]]]) -> None:
    uri, _ = made

    def seen(*args: Any) -> list[tuple[str, int]]:
        return [(row["recipe"], row["seed"]) for row in stored_rows(uri, "symphony-fl", *args)]

    assert seen(["default"], [], [1]) == [("default", 1)]
    assert seen([], ["strategy=fedavg"], [0]) == [("fedavg", 0)]
    assert seen([], ["paradigm=isolated", "rounds=3"]) == [("isolated", 0)]
    assert seen(["isolated"]) == [("isolated rounds=3", 0), ("isolated rounds=4", 0)]
    (row,) = stored_rows(uri, "symphony-fl", ["isolated"], ["rounds=4"])
    assert row["accuracy_after"] == 0.7, "the newest of the same"
    for args, said in (
        ((["defualt"],), "did you mean 'default'"),
        (([], ["nothing"]), "must look like key=value"),
        (([], ["seed=9"]), "no such run"),
    ):
        with pytest.raises(RecipeError, match=said):
            seen(*args)


def test_runs_can_be_found_in_mlflow_by_their_tags(made: tuple[str, list[dict[str, Any]]]) -> None:
    first = find_runs(made[0], "symphony-fl")[0]
    wanted = {"kind": "run", "recipe": "default", "paradigm": "gossip", "strategy": "gossip", "rule": "epidemic",
              "density": "0.05", "model": "tiny", "seed": "0", "agents": "2", "topology": "ring"}  # fmt: skip
    assert wanted.items() <= dict(first.tags).items()
    assert metric_series(made[0], first.id, "bytes/sent") == {0: 0.0, 1: 1000.0, 2: 2000.0}
    assert find_runs(made[0], "no such experiment") == []


class Page(HTMLParser):
    """What a browser would fetch, and the text."""

    def __init__(self) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.text: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def run(uri: str, *arguments: str) -> int:
    return main([*arguments, "--uri", uri])


def test_a_dashboard_is_one_file_that_needs_nothing_else(
    made: tuple[str, list[dict[str, Any]]], tmp_path: Path
) -> None:
    assert run(made[0], "dashboard", "kind=run", "--out", str(tmp_path / "all.html")) == 1, "a run failed"
    assert [path.name for path in tmp_path.iterdir()] == ["all.html"]
    page = Page()
    page.feed((tmp_path / "all.html").read_text())
    assert page.open == [] and (tmp_path / "all.html").read_text().count("<svg") == 3
    assert page.sources and all(source.startswith("#") for source in page.sources), "nothing is fetched"
    text = " ".join(page.text)
    assert "isolated rounds=4" in text and "0.603 ± 0.428" in text and "failed" in text


def test_markdown_has_its_pictures_beside_it(made: tuple[str, list[dict[str, Any]]], tmp_path: Path) -> None:
    out = tmp_path / "new" / "all.md"
    assert run(made[0], "compare", "--from-mlflow", "default", "--out", str(out)) == 0
    text = out.read_text()
    for name in ("accuracy_by_bytes", "accuracy_by_round", "reward"):
        assert f"(all-{name}.png)" in text and (out.parent / f"all-{name}.png").read_bytes()[:4] == b"\x89PNG"
    assert "| default | 2 | 0.333 ± 0.000 | 0.603 ± 0.428 |" in text


def test_compare_from_mlflow_prints_the_table_and_writes_the_rows(
    made: tuple[str, list[dict[str, Any]]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    uri, results = made
    file = tmp_path / "rows.json"
    assert run(uri, "compare", "--from-mlflow", "default", "--json", str(file)) == 0
    assert capsys.readouterr().out.rstrip("\n") == comparison_table(results[:2]) + "\n\n  run in-process"
    assert [row["accuracy_after"] for row in json.loads(file.read_text())["runs"]] == [
        0.1 + 0.2,
        0.9051234567890123,
    ]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["compare", "--from-mlflow", "--out", "x.pdf"], "must end in .html or .md"),
        (["compare", "default", "--out", "x.md"], "needs --from-mlflow"),
        (["compare", "--from-mlflow", "--experiment", "none"], "no such run in experiment 'none'"),
        (["dashboard", "seed=1"], "need --out FILE"),
    ],
)
def test_what_cannot_be_done_is_said(
    made: tuple[str, list[dict[str, Any]]],
    arguments: list[str],
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(made[0], *arguments) == 2
    assert said in capsys.readouterr().err
