"""A device runs the code installed on it: the bundle of a run, whoever started it, is neither fetched nor opened.

Through the deployed path: a real SuperLink, `symphony up`, `flwr run`.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import foreign_app
import pytest
from edge_processes import Loopback

from clients.device.run_admission import APP
from symphony_fl.edge.refused_runs import read_refused_runs
from symphony_fl.edge.status import device_status

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"


class Open(Loopback):
    """A SuperLink without TLS, on which anybody may start runs, and one device."""

    def start(self) -> None:
        home = self.folder / "flwr"
        home.mkdir()
        (home / "config.toml").write_text(
            f'[superlink]\ndefault = "net"\n[superlink.net]\naddress = "127.0.0.1:{self.port}"\ninsecure = true\n'
        )
        programs = Path(sys.executable).parent
        self.environment |= {
            "FLWR_HOME": str(home),
            "FLWR_TELEMETRY_ENABLED": "0",
            "FLWR_DISABLE_UPDATE_CHECK": "1",
            "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
            "PATH": f"{programs}:{os.environ['PATH']}",
        }
        self.program(
            "superlink", "flower-superlink", "--insecure", "--host", "127.0.0.1", "--port", str(self.port)
        )
        self.symphony(
            "d0", "up", "--superlink", f"127.0.0.1:{self.port}", "--number", "0", "--insecure",
            "--device", str(self.device(0)), "--memory", "0.1", "--disk", "0.01",
        )  # fmt: skip

    def ready(self) -> bool:
        """Whether the SuperLink takes connections."""
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def program(self, name: str, *command: str) -> None:
        with (self.folder / f"{name}.txt").open("ab") as output:
            self.commands[name] = subprocess.Popen(
                command, env=self.environment, cwd=self.folder, stdout=output, stderr=subprocess.STDOUT
            )

    def flwr_run(self, app: Path) -> None:
        """Start a run of that app and return."""
        command = ["flwr", "run", str(app), "net"]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Open]:
    loopback = Open(tmp_path_factory.mktemp("open"))
    try:
        loopback.start()
        loopback.wait(loopback.ready, 60)
        yield loopback
    finally:
        loopback.close()


def test_the_app_s_name_is_the_one_in_the_project_file() -> None:
    values = tomllib.loads(PYPROJECT.read_text())
    assert f"{values['tool']['flwr']['app']['publisher']}/{values['project']['name']}" == APP


def test_a_run_of_another_app_is_refused_by_name_and_counted(network: Open, tmp_path: Path) -> None:
    marks, replies = tmp_path / "marks", tmp_path / "replies.json"
    network.flwr_run(foreign_app.make(tmp_path / "app", "mallory/mallory", marks, replies))
    network.wait(replies.exists, 120)
    ((failed, reason),) = json.loads(replies.read_text())
    assert failed and reason == f"foreign_app: fab_id = 'mallory/mallory': this device runs {APP!r} only"
    assert list(marks.iterdir()) == []
    assert read_refused_runs(network.device(0)) == {"foreign_app": 1}


def test_another_module_under_our_name_is_never_imported(network: Open, tmp_path: Path) -> None:
    """What answers is the installed app: it says what is wrong with the attacker's greeting."""
    marks, replies = tmp_path / "marks", tmp_path / "replies.json"
    network.flwr_run(foreign_app.make(tmp_path / "app", APP, marks, replies))
    network.wait(replies.exists, 180)
    ((failed, reason),) = json.loads(replies.read_text())
    assert failed and "config.protocol = None: must be int" in reason
    assert list(marks.iterdir()) == []
    assert device_status(network.device(0))["refused_runs"] == {"foreign_app": 1}, "of the test before"
    installed = [
        path for path in network.device(0).rglob("*") if "foreign" in path.name or path.suffix == ".fab"
    ]
    assert installed == [], "no bundle was put on the device"
