"""Plain `flwr run .`, whose lasting SuperLink Flower starts by itself: there too Ray serves nobody without a token."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from simulation_tree import Tree, await_it

from symphony_fl.edge.device import free_port

ROOT = Path(__file__).resolve().parents[2]
RAY = {"gcs_server", "raylet", "ray::RuntimeEnvAgent", "flwr-simulation"}


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_plain_flwr_run_protects_ray_as_well(tmp_path: Path) -> None:
    home, output = tmp_path / "home", tmp_path / "output.txt"
    surroundings = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    surroundings |= {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "FLWR_HOME": str(tmp_path / "flwr"),
        "FLWR_LOCAL_SUPERLINK_HTTP_API_PORT": str(free_port()),
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
        "FLWR_TELEMETRY_ENABLED": "0",
        "SYMPHONY_HOME": str(home),
    }
    settings = "agents=2 rounds=500 learner.steps=1 tasks.evaluate_every=500 tasks.held_out=1"
    command = ["flwr", "run", ".", "--stream", "--run-config", f'recipe="smoke" overrides="{settings}"']
    command += ["--federation-config", "num-supernodes=2 client-resources-num-cpus=1"]
    with output.open("wb") as file:
        process = subprocess.Popen(command, cwd=ROOT, env=surroundings, stdout=file, stderr=file, umask=0o022)
    superlink: psutil.Process | None = None
    try:
        tree = Tree(process.pid)
        await_it(tree, lambda: _superlink(surroundings) is not None, process, output)
        superlink = _superlink(surroundings)
        assert superlink is not None
        tree = Tree(superlink.pid)  # it is no child of the command's any more
        books = home / "runs"
        await_it(
            tree,
            lambda: any("train" in path.read_text() for path in books.glob("*/history.jsonl")),
            process,
            output,
        )
        found = tree.listening()
        assert RAY <= {name for name, _, _ in found}
        assert {address for _, address, _ in found} == {"127.0.0.1"}, sorted(found)
        raylet = tree.named("raylet").environ()
        assert raylet["RAY_AUTH_MODE"] == "token" and len(raylet["RAY_AUTH_TOKEN"]) == 64
        assert not any(raylet["RAY_AUTH_TOKEN"] in command for command in tree.commands)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)
        family = [] if superlink is None else [superlink, *superlink.children(recursive=True)]
        for member in reversed(family):
            member.kill()
        psutil.wait_procs(family, timeout=30)


def _superlink(surroundings: dict[str, str]) -> psutil.Process | None:
    """The one that listens at the port."""
    port = surroundings["FLWR_LOCAL_SUPERLINK_HTTP_API_PORT"]
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if port in words and any(word.endswith("flower-superlink") for word in words):
            return process
    return None
