"""Runs in-process: the adapters of runs through Flower, also after kills; workers that die, and agents that fail.

That a calm run of `smoke` has the adapters of one through Flower is in `tests/security/test_simulation.py`.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from kill_all import kill_all

from clients.home.founding import found
from strategies.roster import RosterError
from symphony_fl.config.recipe import load_recipe
from symphony_fl.launch.local_superlink import LaunchError
from symphony_fl.launch.runtime import InProcess
from symphony_fl.metrics.history import History

Run = Callable[..., dict[str, Any]]
SMALL = ("learner.steps=1", "learner.prompts=4", "learner.samples=4", "tasks.held_out=2", "rounds=2",
         "limits.wait_for_nodes=900")  # fmt: skip


def start(*words: str, log: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "symphony_fl.cli.main", *words]
    with log.open("ab") as output:
        return subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)


def wait_for_round(folder: Path, number: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 300
    while f'"kind":"server","round":{number},' not in _read(folder / "history.jsonl"):
        assert process.poll() is None and time.monotonic() < deadline, log.read_text()[-3000:]
        time.sleep(0.02)


def _read(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def children_of(process: psutil.Process, word: str) -> list[psutil.Process]:
    return [child for child in process.children(recursive=True) if word in " ".join(child.cmdline())]


@pytest.mark.slow
def test_killed_while_agents_learn_and_resumed(run_in_process: Run, tmp_path: Path) -> None:
    """kill -9 of the process that runs the strategy: its workers end with it, and at most the round is lost. Then of
    one worker, in a resumed run: nothing is lost."""
    overrides = ("rounds=5", "tasks.evaluate_every=5", "limits.at_once=2")
    calm = run_in_process("smoke", *overrides, folder="calm")
    folder, log = tmp_path / "killed", tmp_path / "killed.log"
    process = start("run", "smoke", *overrides, "--in-process", "--run-dir", str(folder), log=log)
    wait_for_round(folder, 2, process, log)
    (server,) = children_of(psutil.Process(process.pid), "strategies.in_process")
    workers = children_of(server, "clients.worker_pool")
    assert len(workers) == 3, "a template and two workers"
    os.kill(server.pid, signal.SIGKILL)
    _gone, alive = psutil.wait_procs(workers, timeout=10)
    assert not alive
    assert process.wait(timeout=60) == 1 and "run ended with status -9" in log.read_text()
    booked = max(History(folder / "history.jsonl").rounds("train"))
    assert booked >= 2

    result = tmp_path / "result.json"
    process = start("resume", str(folder), "--in-process", "--json", str(result), log=log)
    wait_for_round(folder, booked + 1, process, log)
    (server,) = children_of(psutil.Process(process.pid), "strategies.in_process")
    template = children_of(server, "clients.worker_pool")[0]
    os.kill(template.children()[0].pid, signal.SIGKILL)
    assert process.wait(timeout=300) == 0, log.read_text()[-3000:]
    resumed = json.loads(result.read_text())
    assert resumed["adapter_digests"] == calm["adapter_digests"]
    assert resumed["accuracy_after"] == calm["accuracy_after"]


def _homes_of_another_run(run: Path) -> None:
    for number in range(3):
        home = run / "agents" / f"000{number}"
        home.mkdir(parents=True)
        found(home, "another", "{}", has_state=False)


NAMED = "missing: 0, 1, 2; refused: {}.*belongs to run 'another'"


def test_agents_that_fail_are_named(play: Run, tmp_path: Path) -> None:
    """As soon as nobody can introduce itself the roster says who did not, and why: it does not wait for the others."""
    _homes_of_another_run(tmp_path / "run")
    began = time.monotonic()
    with pytest.raises(RosterError, match=NAMED.format("")):
        play("smoke", "limits.wait_for_nodes=1000")
    assert time.monotonic() - began < 900
    assert json.loads((tmp_path / "run" / "result.json").read_text())["status"] == "failed"


@pytest.mark.slow
def test_agents_that_fail_in_processes_of_their_own_are_named(run_in_process: Run, tmp_path: Path) -> None:
    _homes_of_another_run(tmp_path / "here")
    with pytest.raises(LaunchError, match=NAMED.format("HomeError: ")):
        run_in_process("smoke", "limits.wait_for_nodes=1000")
    assert json.loads((tmp_path / "here" / "result.json").read_text())["status"] == "failed"


def test_a_run_that_fails_is_reported_with_its_cause(symphony_home: Path, tmp_path: Path) -> None:
    unchecked = load_recipe("smoke", ["model.name=/no/such/folder"])
    with pytest.raises(LaunchError, match="run ended with status 1; .*/no/such/folder.*run.log"):
        InProcess().run(unchecked, tmp_path / "here", print)


ONE = ("limits.at_once=1",)  # Flower's second actor would load for longer than all the others do
MANY = ("agents=6", "agents_per_node=4", "limits.at_once=2")
OUT_OF_STEP = ("clock.speeds=[rtx4090,rtx3060,m2]", "clock.jitter=0.1")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("recipe", "overrides"),
    [
        ("fedavg", ONE),
        ("async_gossip", (*OUT_OF_STEP, *MANY)),
        ("selfplay", (*ONE, "selfplay.bootstrap=2", "learner.prompts=8")),
        ("async2_decentralized", ONE),
        ("sync_centralized", ONE),
        ("choco", ONE),
        ("gossip", (*ONE, "exchange.encryption=edge")),
        ("async_gossip", OUT_OF_STEP),
        ("gossip", MANY),
        ("async1_centralized", ONE),
        ("curriculum", ONE),
        ("isolated", ONE),
        ("given_tasks", ()),
        ("sparta", ONE),
        ("hetero", ONE),
        ("async2_full", ONE),
    ],
)
def test_the_adapters_are_those_of_a_run_through_flower(
    run: Run, run_in_process: Run, recipe: str, overrides: tuple[str, ...]
) -> None:
    through, here = (run_it(recipe, *SMALL, *overrides) for run_it in (run, run_in_process))
    assert through["runtime"] == "flower" and here["runtime"] == "in-process"
    assert len(through["adapter_digests"]) >= 1
    for name in ("adapter_digests", "accuracy_after", "rounds", "bytes_sent_per_agent", "refused"):
        assert here[name] == through[name], name


@pytest.mark.slow
@pytest.mark.parametrize("first", ["flower", "in-process"])
def test_begun_in_one_way_and_resumed_in_the_other(run_in_process: Run, tmp_path: Path, first: str) -> None:
    overrides = ("rounds=12", "tasks.evaluate_every=12")
    calm = run_in_process("smoke", *overrides, folder="calm")
    folder, log, result = tmp_path / "killed", tmp_path / "killed.log", tmp_path / "result.json"
    ways = {"flower": (), "in-process": ("--in-process",)}
    process = start("run", "smoke", *overrides, *ways.pop(first), "--run-dir", str(folder), log=log)
    wait_for_round(folder, 2, process, log)
    kill_all(process)
    (second,) = ways.values()
    process = start("resume", str(folder), *second, "--json", str(result), log=log)
    assert process.wait(timeout=600) == 0, log.read_text()[-3000:]
    resumed = json.loads(result.read_text())
    assert resumed["adapter_digests"] == calm["adapter_digests"] and resumed["rounds"] == 12
    assert resumed["runtime"] != first


@pytest.mark.slow
def test_the_wall_clock_works_as_well(run_in_process: Run) -> None:
    result = run_in_process("async_gossip", *SMALL, "clock=wall")
    assert result["status"] == "completed" and sum(result["own_rounds"].values()) == 2 * 4
