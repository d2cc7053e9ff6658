"""What is tracked stays where people look for it."""

from __future__ import annotations

from pathlib import Path

import pytest
from empty_store import empty_store
from mlflow import MlflowClient

from symphony_fl.config.recipe import load_recipe
from symphony_fl.tracking.mlflow_store import log_summary
from symphony_fl.tracking.tracker import Tracker


def test_artifacts_lie_beside_the_store_whatever_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Flower runs a ServerApp in a folder of its own, which is deleted after the run."""
    gone, home, run = tmp_path / "gone", tmp_path / "home", tmp_path / "run"
    for folder in (gone, home, run):
        folder.mkdir()
    monkeypatch.chdir(gone)
    uri = empty_store(home)
    tracker = Tracker(uri, load_recipe("smoke", []), "test", run)
    (run / "result.json").write_text("{}")
    tracker.artifact(run / "result.json", "plots")
    tracker.finish("FINISHED")
    log_summary(uri, "summary", [run / "result.json"])
    assert list(gone.iterdir()) == []
    assert len(list(home.glob("artifacts/symphony-fl/**/result.json"))) == 2
    assert MlflowClient(uri).list_artifacts(tracker.parent, "plots")[0].path == "plots/result.json"
