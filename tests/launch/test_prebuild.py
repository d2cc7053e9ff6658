"""What is built while Flower starts."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from symphony_fl.config.recipe import load_recipe
from symphony_fl.launch.prebuild import built_meanwhile, missing, missing_start
from symphony_fl.launch.watchdog import LAUNCHER


def test_only_a_model_of_ours_that_was_never_built_is_missing(tmp_path: Path) -> None:
    (tmp_path / "tiny-0123.lock").touch()
    (tmp_path / ".tiny-0123-building-x").mkdir()
    assert missing("tiny", tmp_path) and missing("smollm2", tmp_path)
    assert not missing("a/model", tmp_path), "what it is called says nothing"
    (tmp_path / "tiny-0123").mkdir()
    assert not missing("tiny", tmp_path) and missing("smollm2", tmp_path)


@pytest.mark.slow
def test_a_missing_model_is_built_and_a_build_ends_with_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SYMPHONY_CACHE", str(tmp_path))
    environment = {"SYMPHONY_CACHE": str(tmp_path), LAUNCHER: str(os.getpid())}
    said: list[str] = []
    given, play = load_recipe("given_tasks"), load_recipe("default", ["selfplay.bootstrap=2"])
    with built_meanwhile(given, environment, said.append):
        _await(lambda: bool(list(tmp_path.glob("models/.tiny-*-building-*"))))
    assert missing("tiny"), "stopped in the middle, it leaves nothing under the final name"
    with built_meanwhile(play, environment, said.append):
        _await(lambda: not missing("tiny") and not missing_start(play))
    with built_meanwhile(play, environment, said.append), built_meanwhile(given, environment, said.append):
        pass
    model = "the model 'tiny'"
    assert said == [
        f"building {model} meanwhile, once",
        f"building {model} and the common start meanwhile, once",
    ]
    assert missing_start(load_recipe("default", ["selfplay.bootstrap=2", "seed=1"])), (
        "another seed, another start"
    )
    assert not missing_start(given), "given tasks need none"


def _await(condition: Callable[[], bool], seconds: float = 600.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)
