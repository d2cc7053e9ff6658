"""The paper's experiment through real `flwr run`: killed midway, resumed, reported; the same seed, the same figures."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from kill_all import kill_all

from symphony_fl.experiment.report import BEGIN, END, PLOTS

pytestmark = pytest.mark.slow


def _start(folder: Path, log: Path, *words: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "symphony_fl.cli.main", "experiment", "paper", "--quick", "--seeds", "0"]
    with log.open("ab") as output:
        return subprocess.Popen(
            [*command, "--folder", str(folder), *words], stdout=output, stderr=subprocess.STDOUT
        )


def _wait_for(text: str, log: Path, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 600
    while text not in log.read_text():
        assert process.poll() is None and time.monotonic() < deadline, log.read_text()[-3000:]
        time.sleep(0.1)


def _rows(folder: Path) -> dict[str, dict[str, Any]]:
    return {row["paradigm"]: row for row in json.loads((folder / "rows.json").read_text())["rows"]}


def test_killed_resumed_and_the_same_again(symphony_home: Path, tmp_path: Path) -> None:
    folder, log = tmp_path / "paper", tmp_path / "log.txt"
    readme = tmp_path / "README.md"
    readme.write_text(f"{BEGIN}\n{END}\n")
    words = ("--paradigms", "isolated", "given_tasks", "--readme", str(readme))
    process = _start(folder, log, *words)
    _wait_for("default, seed 0: round 1/2", log, process)
    kill_all(process)
    assert not (folder / "report.html").exists()
    first = log.stat().st_size
    assert _start(folder, log, *words).wait(timeout=900) == 0, log.read_text()[-3000:]
    assert "2 runs, 1 of them done before" in log.read_text()[first:]
    page = (folder / "report.html").read_text()
    assert all(f'id="figure-{name}"' in page for name in PLOTS) and "A quick run" in page
    assert "Accuracy of the training paradigms" in readme.read_text()

    again = tmp_path / "again"
    assert (
        _start(again, log, "--paradigms", "isolated", "given_tasks", "--parallel", "2").wait(timeout=900) == 0
    )
    ours, theirs = _rows(folder), _rows(again)
    assert ours["isolated"] == theirs["isolated"], "the same seed gives the same figures"
    for name in ("accuracy", "reward", "smoothness", "similarity/updates"):
        assert ours["given_tasks"]["curves"][name] == theirs["given_tasks"]["curves"][name], "killed or not"
