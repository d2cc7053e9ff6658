"""FedAvg, runs that cannot work, and recipes that are refused before any work.

The main job through real `flwr run`, its result, books and numbers are in `tests/security/test_simulation.py`: one run
of minutes serves both.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from symphony_fl.cli.main import main
from symphony_fl.launch.local_superlink import LaunchError

Run = Callable[..., dict[str, Any]]


def test_fedavg_is_flowers_own_and_ends_in_one_adapter(play: Run) -> None:
    result = play("smoke", "strategy=fedavg")
    assert len(set(result["adapter_digests"].values())) == 1
    array = result["bytes_sent_per_agent"] / 2
    assert 4 * 26112 <= array <= 4 * 26112 + 300, "two rounds of the float32 adapter and numpy's header"
    assert result["bytes_received_per_agent"] == result["bytes_sent_per_agent"]


UNABLE = ("model.device=cuda:77", "limits.wait_for_nodes=60")


def test_a_run_that_cannot_work_is_booked_as_failed(play: Run, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="missing: 0, 1, 2; refused: .*cuda:77"):
        play("smoke", *UNABLE)
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["status"] == "failed" and "missing: 0, 1, 2" in result["error"]


@pytest.mark.slow
def test_a_run_that_cannot_work_is_reported_as_failed(run: Run) -> None:
    with pytest.raises(LaunchError, match="failed"):
        run("smoke", *UNABLE)


@pytest.mark.parametrize(
    "override",
    ["exchange.densty=1", "rounds=x", "exchange.selection.density=0", "topology=star", "topology.degree=2",
     "agents=1", "model.name=/no/such/folder"],
)  # fmt: skip
def test_a_recipe_is_refused_in_one_line_before_any_work(
    override: str, symphony_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(symphony_home.rglob("*"))
    assert main(["run", "smoke", override]) == 2
    _check_refusal(override, *capsys.readouterr())
    assert sorted(symphony_home.rglob("*")) == before


def test_the_command_as_a_process_refuses_too(symphony_home: Path) -> None:
    override = "exchange.densty=1"
    command = [sys.executable, "-m", "symphony_fl.cli.main", "run", "smoke", override]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    _check_refusal(override, done.stdout, done.stderr)


def _check_refusal(override: str, out: str, err: str) -> None:
    assert out == ""
    assert len(err.strip().splitlines()) == 1
    assert override.split("=")[0].split(".")[-1] in err
