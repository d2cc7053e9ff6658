"""`kill -9` at random instants of a real run: every home opens at a whole round, and the resumed run ends with the
same adapters as one that was never killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import in_this_process
import numpy as np
import pytest
from kill_all import kill_all

from clients.home.home import Home
from symphony_fl.build.checks import check_recipe
from symphony_fl.config.recipe import load_recipe
from symphony_fl.launch.flower import prepare_folder

Run = Callable[..., dict[str, Any]]


def _symphony(*arguments: str, log: Path) -> subprocess.Popen[bytes]:
    with log.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "symphony_fl.cli.main", *arguments],
            stdout=output,
            stderr=subprocess.STDOUT,
        )


def _rounds(folder: Path) -> list[int]:
    """Rounds of the homes that exist; raises HomeError if one does not open."""
    states = [Home(home).load() for home in sorted((folder / "agents").glob("*"))]
    for state in states:
        assert state is None or state.round == 0 or state.round in state.outbox, (
            "a round is whole or not there"
        )
    return [0 if state is None else state.round for state in states]


def _wait_for_round(folder: Path, number: int, process: subprocess.Popen[bytes]) -> None:
    while min(_rounds(folder), default=0) < number and process.poll() is None:
        time.sleep(0.05)


def _killed_and_resumed(
    run: Run,
    tmp_path: Path,
    kills: int,
    rounds: int,
    recipe: str = "smoke",
    more: tuple[str, ...] = (),
    spread: int = 1,
) -> None:
    """`spread` is how many rounds the agents of the recipe may be apart."""
    overrides = (f"rounds={rounds}", "tasks.evaluate_every=2", *more)
    calm = run(recipe, *overrides, folder="calm")
    folder, log = tmp_path / "killed", tmp_path / "killed.log"
    rng = np.random.default_rng(kills)
    before = 0
    start = ("run", recipe, *overrides, "--run-dir", str(folder))
    process = _symphony(*start, log=log)
    for number in range(1, kills + 1):
        # The first kills come while Flower starts, the others while rounds are under way.
        if number > kills // 3:
            _wait_for_round(folder, before + 1, process)
            time.sleep(rng.uniform(0.0, 0.5))
        else:
            time.sleep(rng.uniform(5.0, 25.0))
        assert process.poll() is None, f"over before kill {number}: {log.read_text()[-3000:]}"
        kill_all(process)
        found = _rounds(folder)
        assert not found or max(found) - min(found) <= spread, found
        assert min(found, default=0) >= before, "a whole round was lost"
        before = min(found, default=0)
        again = ("resume", str(folder)) if (folder / "recipe.json").exists() else start
        process = _symphony(*again, "--json", str(tmp_path / "result.json"), log=log)
    assert process.wait(timeout=300) == 0, log.read_text()[-3000:]
    assert before > 0, "no kill came after a round: the test tested nothing"
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["adapter_digests"] == calm["adapter_digests"]
    assert result["accuracy_after"] == calm["accuracy_after"]
    assert result["rounds"] == rounds


def test_server_and_agents_killed_between_rounds_and_resumed(play: Run, tmp_path: Path) -> None:
    """All in one process, which is really killed; the tests below kill those of Flower and Ray."""
    overrides = ("agents=2", "rounds=4", "tasks.evaluate_every=4", "tracking.agents=false")
    calm = play("smoke", *overrides, folder="calm")
    folder = tmp_path / "killed"
    prepare_folder(check_recipe(load_recipe("smoke", overrides)), folder)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    log = (tmp_path / "killed.log").open("wb")
    with (
        log,
        subprocess.Popen(
            [sys.executable, in_this_process.__file__, str(folder)], env=environment, stdout=log, stderr=log
        ) as process,
    ):
        _wait_for_round(folder, 1, process)
        time.sleep(np.random.default_rng(0).uniform(0.0, 0.2))
        assert process.poll() is None, (tmp_path / "killed.log").read_text()[-3000:]
        process.kill()
    found = _rounds(folder)
    assert 1 <= min(found) < 4 and max(found) - min(found) <= 1, found
    assert not (folder / "result.json").exists()
    resumed = play("smoke", *overrides, folder="killed")
    assert resumed["adapter_digests"] == calm["adapter_digests"]
    assert resumed["accuracy_after"] == calm["accuracy_after"]
    assert resumed["rounds"] == 4 and resumed["status"] == "completed"


@pytest.mark.slow
def test_killed_once_between_rounds_and_resumed(run: Run, tmp_path: Path) -> None:
    _killed_and_resumed(run, tmp_path, kills=1, rounds=8)


@pytest.mark.slow
def test_killed_ten_times_and_resumed(run: Run, tmp_path: Path) -> None:
    _killed_and_resumed(run, tmp_path, kills=10, rounds=30)


@pytest.mark.slow
def test_a_trainer_and_its_workers_killed_and_resumed(run: Run, tmp_path: Path) -> None:
    """The trainer is at a step, its workers at the next; a kill may find it one behind that."""
    more = ("agents=3", "learner.prompts=8", "tasks.held_out=2", "strategy.momentum=0.3")
    _killed_and_resumed(run, tmp_path, 3, 16, "async2_decentralized", more, spread=2)
