"""What is done and what is not, and how much runs at once; the runs themselves are in tests/end_to_end."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from symphony_fl.cli.main import main
from symphony_fl.config.recipe import RecipeError
from symphony_fl.experiment.paradigms import Planned, plan
from symphony_fl.experiment.runner import result_of, run_all, run_folder_of, runs_at_once
from symphony_fl.storage.folders import locked


@pytest.fixture
def planned() -> Planned:
    return plan(["isolated"], [0], "tiny", True)[0]


def _finish(folder: Path, planned: Planned, status: str, digest: str) -> None:
    where = run_folder_of(folder, planned)
    where.mkdir(parents=True, exist_ok=True)
    (where / "result.json").write_text(json.dumps({"status": status, "recipe_digest": digest}))


def test_done_is_what_completed_with_this_very_recipe(tmp_path: Path, planned: Planned) -> None:
    assert result_of(tmp_path, planned) is None
    _finish(tmp_path, planned, "failed", planned.recipe.digest)
    assert result_of(tmp_path, planned) is None
    _finish(tmp_path, planned, "completed", "another")
    assert result_of(tmp_path, planned) is None
    _finish(tmp_path, planned, "completed", planned.recipe.digest)
    assert result_of(tmp_path, planned) is not None
    changed = replace(planned, recipe=planned.recipe.model_copy(update={"rounds": 9}))
    assert run_folder_of(tmp_path, changed) != run_folder_of(tmp_path, planned)


def test_nothing_is_started_where_all_is_done(tmp_path: Path, planned: Planned) -> None:
    _finish(tmp_path, planned, "completed", planned.recipe.digest)
    said: list[str] = []
    assert run_all([planned], tmp_path, 1, said.append) == []
    assert said == ["1 runs, 1 of them done before, 1 at a time"]


def test_a_folder_is_worked_in_by_one_process(tmp_path: Path, planned: Planned) -> None:
    with locked(tmp_path / "experiment.lock", 1.0, RuntimeError("held")):
        with pytest.raises(RecipeError, match="another process works in this folder"):
            run_all([planned], tmp_path, 1, print)


def test_a_core_for_every_agent_of_every_run(planned: Planned) -> None:
    assert [runs_at_once([planned], cores) for cores in (1, 2, 4, 16)] == [1, 1, 1, 4]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--paradigms", "given_task"], "did you mean 'given_tasks'"),
        (["--seeds", "1", "1"], "--seeds 1 1: none may be named twice"),
        (["--parallel", "-1"], "--parallel -1: must be at least 1"),
        (["--model", "tinylama"], "did you mean 'tinyllama'"),
        (["--readme", "/no/such/file.md"], "cannot be read"),
    ],
)
def test_the_command_refuses_in_one_line_before_any_work(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["experiment", "paper", "--quick", "--folder", str(tmp_path / "f"), *words]) == 2
    error = capsys.readouterr().err
    assert said in error and len(error.strip().splitlines()) == 1
    assert not (tmp_path / "f").exists()
