"""A real `symphony run` that is looked at from outside while it goes on, and held up meanwhile."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from simulation_tree import Tree, await_it
from tracking_store import new_store

OURS = {"flwr-simulation", "gcs_server", "raylet", "ray::RuntimeEnvAgent"}  # beside the actors, ray::...
ACTOR = "ray::ClientAppA"  # Flower's, in which agents answer; the system keeps 15 characters of a name


@dataclass
class Running:
    """The run: its command, its processes, where it writes, and Ray's door and key."""

    process: subprocess.Popen[bytes]
    tree: Tree
    home: Path
    gcs: str
    token: str
    superlink: str

    def hold(self) -> None:
        """Stop the agents' processes, so that the run is not over before it was looked at; all others serve."""
        for actor in self._actors():
            actor.suspend()

    def release(self) -> None:
        for actor in self._actors():
            actor.resume()

    @contextmanager
    def released(self) -> Iterator[None]:
        """For a moment."""
        self.release()
        yield
        self.hold()

    def stop(self) -> None:
        """As by Ctrl-C."""
        self.release()
        self.process.send_signal(signal.SIGINT)
        self.process.wait(60)

    def finish(self) -> dict[str, Any]:
        """The run's result, once it is over."""
        self.release()
        assert self.process.wait(300) == 0, (self.home.parent / "output.txt").read_text()[-3000:]
        (file,) = self.home.glob("runs/*/result.json")
        return dict(json.loads(file.read_text()))

    def left_open(self) -> dict[str, str]:
        """What lies in its folder that others than its owner may read or enter -> its mode."""
        left = [self.home, *self.home.rglob("*")]
        assert {"mlflow.db", "history.jsonl", "recipe.json", "flower.log"} <= {path.name for path in left}
        modes = {str(path): stat.S_IMODE(path.lstat().st_mode) for path in left}
        return {path: oct(mode) for path, mode in modes.items() if mode & 0o077}

    def left_running(self) -> list[psutil.Process]:
        """Processes of it that live."""
        return [process for process in self.tree.look() if process.status() != psutil.STATUS_ZOMBIE]

    def _actors(self) -> list[psutil.Process]:
        found = []
        for process in self.tree.look():
            try:
                if process.name().startswith(ACTOR):
                    found.append(process)
            except psutil.NoSuchProcess:
                continue
        return found


@contextmanager
def running_simulation(factory: pytest.TempPathFactory, *overrides: str) -> Iterator[Running]:
    """A run of `smoke` that is held up after its first training; stopped at the end, if it is not over."""
    folder = factory.mktemp("simulation")
    home, output = folder / "home", folder / "output.txt"
    home.mkdir(mode=0o755)
    new_store(factory, home / "mlflow.db")
    (home / "mlflow.db").chmod(0o644)  # as earlier versions left them
    with output.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "symphony_fl.cli.main", "run", "smoke", *overrides],
            stdout=file,
            stderr=file,
            env=os.environ | {"SYMPHONY_HOME": str(home)},
            umask=0o022,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # also below nohup
        )
    tree = Tree(process.pid)
    run = Running(process, tree, home, "", "", "")
    try:
        await_it(tree, lambda: any(home.glob("runs/*/history.jsonl")), process, output)
        (history,) = home.glob("runs/*/history.jsonl")
        await_it(tree, lambda: '"train"' in history.read_text(), process, output)
        run.hold()
        doors = {name: f"{reachable(address)}:{port}" for name, address, port in tree.listening()}
        run.gcs, run.token = doors["gcs_server"], tree.named("raylet").environ().get("RAY_AUTH_TOKEN", "")
        (run.superlink,) = {
            door for name, door in doors.items() if name not in OURS and not name.startswith("ray::")
        }
        assert not (history.parent / "result.json").exists(), "the run was over before it was looked at"
        yield run
    finally:
        run.stop()


def reachable(address: str) -> str:
    """Where a socket that listens at this address answers."""
    return "127.0.0.1" if address in ("::", "0.0.0.0") else address
