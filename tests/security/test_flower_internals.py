"""A device starts only with the Flower whose internals were read; there is no fallback to Flower's own programs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from clients.flower_patches import internals as flower_internals
from symphony_fl.cli.main import main

CHANGED = """
import importlib, sys
from clients.flower_patches import internals as flower_internals
module = importlib.import_module(flower_internals.MODULES["node"])
def _pull_and_store_message(**arguments):
    "another one"
module._pull_and_store_message = _pull_and_store_message
sys.argv[1:] = {arguments!r}
sys.exit(importlib.import_module({program!r}).main())
"""


def test_the_installed_flower_is_the_known_one() -> None:
    """Names what is relied on: a release that changes any of these functions fails here first."""
    flower_internals.check()
    assert {name for _, name in flower_internals.SOURCES} == {
        "start_client_internal", "_pull_and_store_message", "_push_messages", "_insert_message", "flower_supernode",
        "_start_supernode_http_api", "pull_task_input", "push_message", "push_task_output",
        "pull_and_inflate_object_from_tree", "make_simple_http_retry_invoker",
    }  # fmt: skip


@pytest.mark.parametrize(
    "program",
    [
        "clients.device.supernode",
        "clients.device.warm_executor",
        "clients.flower_patches.internals",
    ],
)
def test_no_program_starts_with_a_changed_function(program: str) -> None:
    arguments = {
        "clients.device.supernode": ["--insecure", "--superlink", "127.0.0.1:1"],
        "clients.device.warm_executor": [
            "--runtime-api-address",
            "127.0.0.1:1",
            "--secret-file",
            "/dev/null",
        ],
        "clients.flower_patches.internals": [],
    }[program]
    code = CHANGED.format(arguments=arguments, program=program)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 3, done.stderr
    assert done.stderr.strip().endswith("_pull_and_store_message differs from the one that devices rely on")


def test_another_version_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flower_internals, "version", lambda name: "1.43.0")
    with pytest.raises(
        flower_internals.UnknownFlower, match=r"flwr 1\.43\.0 is installed; devices run with flwr 1\.42\.x"
    ):
        flower_internals.check()


def test_symphony_up_refuses_to_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other" / "flwr-1.43.0.dist-info"
    other.mkdir(parents=True)
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: flwr\nVersion: 1.43.0\n")
    monkeypatch.setenv("PYTHONPATH", f"{other.parent}:.")
    command = ("up", "--superlink", "127.0.0.1:1", "--number", "0", "--insecure")
    assert main([*command, "--device", str(tmp_path / "device"), "--memory", "0.01", "--disk", "0.01"]) == 2
    assert "flwr 1.43.0 is installed; devices run with flwr 1.42.x only" in capsys.readouterr().err
    assert not (tmp_path / "device" / "logs").exists(), "nothing was started"
