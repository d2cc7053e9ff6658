"""Real data by name: entries are read or refused, and a skill's name means one set of rows in a process."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import symphony_fl.learning.skills as registry
from symphony_fl.build.checks import check_recipe
from symphony_fl.build.components import held_out_tasks
from symphony_fl.config.recipe import RecipeError, load_recipe
from symphony_fl.learning.skills import SkillError, get_skill, install_rows
from symphony_fl.learning.skills.datasets.loaders import SHIPPED
from symphony_fl.learning.skills.datasets.sources import Source, parse_source
from symphony_fl.learning.tasks.task_sampler import is_reserved


@pytest.fixture(autouse=True)
def _fresh_registry() -> Iterator[None]:
    """What a test installs is gone behind it."""
    skills = dict(registry.SKILLS)
    yield
    registry.SKILLS.update(skills)
    registry._INSTALLED.clear()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A hundred rows in the format of GSM8K."""
    rows = [
        {"question": f"What is {n} plus one?", "answer": f"It is <<{n}+1={n + 1}>>{n + 1}.\n#### {n + 1}"}
        for n in range(100)
    ]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def _question(name: str) -> str:
    return get_skill(name).generate(np.random.default_rng(0)).prompt


@pytest.mark.parametrize(
    ("entry", "place", "split"),
    [
        ("gsm8k=openai/gsm8k:train", "openai/gsm8k", "train"),
        ("gsm8k=~/rows:dev-2", "~/rows", "dev-2"),
        ("gsm8k=/data/a:b=c d:test", "/data/a:b=c d", "test"),
    ],
)
def test_entries(entry: str, place: str, split: str) -> None:
    assert parse_source(entry) == Source("gsm8k", place, split)
    assert str(parse_source(entry)) == entry


@pytest.mark.parametrize(
    "entry",
    ["", "gsm8k", "gsm8k=:train", "gsm8k=/a", "gsm8k=/a:", "=/a:b", "gsm8k=/a:../b", "a b=/a:b", "nq=a:b"],
)
def test_entries_of_another_form_are_refused(entry: str) -> None:
    with pytest.raises(SkillError, match="must"):
        parse_source(entry)


def test_any_entry_is_read_or_refused() -> None:
    outcomes: Counter[str] = Counter()

    @given(st.text() | st.from_regex(r"\w*=[\w/~.]*:[\w.-]*", fullmatch=True))
    @example("gsm8k=/data/a:b:test")
    def read(entry: str) -> None:
        try:
            source = parse_source(entry)
        except SkillError:
            outcomes["refused"] += 1
            return
        outcomes["read"] += 1
        assert str(source) == entry and source.skill and source.place and "/" not in source.split

    read()
    assert outcomes["read"] and outcomes["refused"]


def test_a_relative_folder_is_no_hub_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "openai" / "gsm8k").mkdir(parents=True)
    monkeypatch.chdir(folder)
    with pytest.raises(SkillError, match="or a folder from / or ~ on"):
        parse_source("gsm8k=openai/gsm8k:train")


def test_a_skill_asks_the_rows_it_was_given(folder: Path) -> None:
    assert "plus one" not in _question("gsm8k")
    install_rows([f"gsm8k={folder}:train"], ["gsm8k", "nq"])
    assert "plus one" in _question("gsm8k").rpartition("Q: ")[2]
    assert get_skill("gsm8k").difficulties == range(1, 2)


def test_installing_again_reads_nothing_and_other_rows_are_refused(folder: Path) -> None:
    entry = f"gsm8k={folder}:train"
    install_rows([entry], ["gsm8k"])
    (folder / "train.jsonl").unlink()
    install_rows([entry], ["gsm8k"])
    install_rows([], ["nq", "sort"])  # a recipe that does not use the skill
    for other in ([f"gsm8k={SHIPPED / 'gsm8k'}:train"], []):
        with pytest.raises(SkillError, match="this process has read .* already"):
            install_rows(other, ["gsm8k"])
    assert "plus one" in _question("gsm8k")


def test_one_skill_has_one_source(folder: Path) -> None:
    with pytest.raises(SkillError, match="'gsm8k' has .* already"):
        install_rows([f"gsm8k={folder}:train", f"gsm8k={folder}:test"], ["gsm8k"])


def test_a_folder_of_spider(tmp_path: Path) -> None:
    shutil.copytree(SHIPPED / "spider", tmp_path / "spider")
    rows = json.loads((tmp_path / "spider" / "dev.json").read_text())
    (tmp_path / "spider" / "few.json").write_text(json.dumps([row | {"question": "What?"} for row in rows]))
    install_rows([f"spider_sample={tmp_path / 'spider'}:few"], ["spider_sample"])
    assert _question("spider_sample").endswith("Question: What?\nSQL:")
    registry._INSTALLED.clear()
    with pytest.raises(SkillError, match=r"no train.json in it"):
        install_rows([f"spider_sample={tmp_path / 'spider'}:train"], ["spider_sample"])


def test_a_recipe_is_evaluated_on_its_rows(folder: Path) -> None:
    entry = f"gsm8k={folder}:train"
    recipe = load_recipe("gsm8k", [f"tasks.sources=[{entry}]", "tasks.held_out=5"])
    assert recipe.tasks.sources == [entry]
    tasks = held_out_tasks(recipe)  # in a process that has checked no recipe
    assert len(tasks) == 5 and all("plus one" in task.prompt and is_reserved(task.prompt) for task in tasks)
    assert check_recipe(recipe) is recipe
    with pytest.raises(RecipeError, match="tasks.sources: the shipped rows: this process has read"):
        check_recipe(load_recipe("gsm8k"))
    (folder / "train.jsonl").write_text("{}\n")
    with pytest.raises(RecipeError, match="row 1: no field 'question'"):
        registry._INSTALLED.clear()
        check_recipe(recipe)
