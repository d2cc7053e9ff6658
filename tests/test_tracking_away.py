"""A real MLflow server that is killed, or not there at all: nothing is lost, nothing is there twice, nobody waits."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from empty_store import empty_store
from mlflow import MlflowClient

from symphony_fl.cli.main import main
from symphony_fl.config.options import Recipe
from symphony_fl.config.recipe import load_recipe
from symphony_fl.metrics.history import Event, History
from symphony_fl.tracking import delivery as delivering
from symphony_fl.tracking.spool import Spool
from symphony_fl.tracking.tracker import Tracker

AGENTS = 3


class Server:
    """`mlflow server` on loopback."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--backend-store-uri", f"sqlite:///{self.folder / 'store.db'}", "--workers", "1"]
        command += ["--artifacts-destination", str(self.folder / "files")]
        environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}  # starts in half the time
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, start_new_session=True, env=environment
            )
        deadline = time.monotonic() + 300
        while True:
            try:
                with urllib.request.urlopen(f"{self.uri}/health", timeout=2):
                    return
            except OSError:
                assert time.monotonic() < deadline, (self.folder / "server.log").read_text()
                time.sleep(0.3)

    def kill(self) -> None:
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path)
    yield server
    server.kill()


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that is back is noticed in the next round."""
    monkeypatch.setattr(delivering, "PAUSE_SECONDS", 0.0)


def recipe(name: str) -> Recipe:
    return load_recipe("smoke", [f"name={name}", f"agents={AGENTS}"])


class Playing:
    """A run without agents: its books and its tracker."""

    def __init__(self, uri: str, folder: Path) -> None:
        folder.mkdir(exist_ok=True, parents=True)
        self.folder = folder
        self.recipe = recipe(folder.name)
        (folder / "recipe.json").write_text(self.recipe.to_json())
        self.history = History(folder / "history.jsonl")
        self.tracker = Tracker(uri, self.recipe, folder.name, folder)
        self.longest = 0.0

    def round(self, number: int) -> None:
        began = time.monotonic()
        for agent in range(AGENTS):
            metrics = {"reward/local": number + agent / 10, "drift": number / 7}
            self.history.add(Event("train", number, agent, metrics))
            self.tracker.agent(agent, number, metrics)
        self.tracker.run(number, {"accuracy/mean": number / 10})
        self.longest = max(self.longest, time.monotonic() - began)
        self.tracker.settle()

    def finish(self) -> None:
        self.history.close()
        (self.folder / "result.json").write_text("{}")
        self.tracker.tag_agent(1, {"did": "did:key:z6Mk"})
        self.tracker.artifact(self.folder / "result.json")
        self.tracker.finish("FINISHED")


def check_stored(playing: Playing, uri: str, rounds: int) -> None:
    """The store has what history.jsonl has, each once, and the rest of the run."""
    client = MlflowClient(tracking_uri=uri)
    (experiment,) = [item for item in client.search_experiments() if item.name == "symphony-fl"]
    runs = client.search_runs([experiment.experiment_id], f"tags.recipe = '{playing.recipe.name}'")
    assert len(runs) == 1 + AGENTS, "no run was made twice"
    (parent,) = [run for run in runs if run.data.tags["kind"] == "run"]
    children = {run.data.tags["agent"]: run for run in runs if run.data.tags["kind"] == "agent"}
    stored: Counter[tuple[int, int, str, float]] = Counter()
    for agent, run in children.items():
        assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
        for name in run.data.metrics:
            points = client.get_metric_history(run.info.run_id, name)
            stored.update((point.step, int(agent), name, point.value) for point in points)
    events = History(playing.history.path).events("train")
    assert stored == Counter(
        (e.round, e.agent, name, value) for e in events for name, value in e.metrics.items()
    )
    points = client.get_metric_history(parent.info.run_id, "accuracy/mean")
    assert [point.step for point in points] == list(range(1, rounds + 1))
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert parent.data.params["agents"] == str(AGENTS) and children["1"].data.tags["did"] == "did:key:z6Mk"
    assert [item.path for item in client.list_artifacts(parent.info.run_id)] == ["result.json"]


@pytest.mark.slow
def test_a_server_killed_in_mid_run_and_started_again_has_everything_once(
    server: Server, tmp_path: Path
) -> None:
    server.start()
    playing = Playing(server.uri, tmp_path / "killed")
    for number in (1, 2):
        playing.round(number)
    assert playing.tracker.pending == 0
    server.kill()
    for number in (3, 4):
        playing.round(number)
    assert playing.tracker.pending == 2 * (AGENTS + 1) and playing.longest < 1
    server.start()
    rounds = 4
    while playing.tracker.pending and rounds < 30:  # a server that has just started may be slow to answer
        rounds += 1
        playing.round(rounds)
    assert playing.tracker.pending == 0 and playing.longest < 1
    playing.finish()
    check_stored(playing, server.uri, rounds)
    # Counted anew, as after a kill before the count was saved: all of it is delivered again, and is there once.
    (playing.folder / "tracking.json").unlink()
    assert main(["replay", str(playing.folder), "--uri", server.uri]) == 0
    check_stored(playing, server.uri, rounds)


@pytest.mark.slow
def test_a_server_that_was_never_there_gets_the_run_by_a_replay(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    playing = Playing(server.uri, tmp_path / "never")
    for number in (1, 2, 3):
        playing.round(number)
    playing.finish()
    assert playing.tracker.parent == "" and playing.longest < 1
    assert main(["replay", str(playing.folder)]) == 1, "still away"
    server.start()
    assert main(["replay", str(playing.folder)]) == 0
    check_stored(playing, server.uri, rounds=3)
    assert main(["replay", str(playing.folder)]) == 0
    assert "0 delivered, 0 left" in capsys.readouterr().out


def test_a_server_that_takes_connections_and_never_answers_costs_a_round_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivering, "ROUND_PATIENCE", 1)
    monkeypatch.setattr(delivering, "FINISH_PATIENCE", 1)
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_TIMEOUT", raising=False)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        threading.Thread(target=lambda: [silent.accept() for _ in range(9)], daemon=True).start()
        playing = Playing(f"http://127.0.0.1:{silent.getsockname()[1]}", tmp_path / "silent")
        playing.round(1)
        playing.finish()
    assert playing.longest < 1
    assert Spool(playing.folder).pending == 1 + (AGENTS + 1) + 2 + (AGENTS + 1), "all of it is kept"


def test_what_a_store_will_never_take_holds_up_nothing(tmp_path: Path) -> None:
    uri = empty_store(tmp_path)
    playing = Playing(uri, tmp_path / "refused")
    playing.tracker.run(1, {"bad name \u2620": 1.0})
    playing.tracker.artifact(tmp_path / "gone.txt")
    playing.round(2)
    assert playing.tracker.pending == 0
    playing.tracker.finish("FINISHED")
    assert Spool(playing.folder).state["refused"] == 2
    points = MlflowClient(tracking_uri=uri).get_metric_history(playing.tracker.parent, "accuracy/mean")
    assert [point.step for point in points] == [2]
