"""A simulation that runs, and what others on this machine can make of it: nothing without a credential.

One real `symphony run` serves all tests; the last of them read what it left when it was stopped.
"""

from __future__ import annotations

import os
import secrets
import signal
import socket
import stat
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import psutil
import pytest
from simulation_tree import Tree, await_it

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")

OURS = {"flwr-simulation", "gcs_server", "raylet", "ray::RuntimeEnvAgent"}  # beside the actors, ray::...
HARMLESS = (
    "/ray.rpc.InternalKVGcsService/InternalKVKeys",
    "/ray.rpc.NodeManagerService/GetNodeStats",
    "/ray.rpc.ObjectManagerService/FreeObjects",
    "/ray.rpc.CoreWorkerService/GetCoreWorkerStats",
)  # one question for every service of Ray's that listens; whoever may ask may also have code run


@dataclass
class Running:
    """The run: its command, its processes, where it writes, and Ray's door and key."""

    process: subprocess.Popen[bytes]
    tree: Tree
    home: Path
    gcs: str
    token: str
    superlink: str

    def stop(self) -> None:
        self.process.send_signal(signal.SIGINT)
        self.process.wait(60)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("security")
    home, output = folder / "home", folder / "output.txt"
    home.mkdir(mode=0o755)
    (home / "mlflow.db").touch(mode=0o644)  # as earlier versions left them
    command = [sys.executable, "-m", "symphony_fl.cli.main", "run", "smoke", "agents=2", "rounds=500"]
    command += ["learner.steps=1", "tasks.evaluate_every=500", "tasks.held_out=1"]
    with output.open("wb") as file:
        process = subprocess.Popen(
            command,
            stdout=file,
            stderr=file,
            env=os.environ | {"SYMPHONY_HOME": str(home)},
            umask=0o022,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # also below nohup
        )
    tree = Tree(process.pid)
    try:
        await_it(tree, lambda: any(home.glob("runs/*/history.jsonl")), process, output)
        await_it(
            tree, lambda: "train" in next(home.glob("runs/*/history.jsonl")).read_text(), process, output
        )
        doors = {name: f"{_reachable(address)}:{port}" for name, address, port in tree.listening()}
        token = tree.named("raylet").environ().get("RAY_AUTH_TOKEN", "")
        yield Running(process, tree, home, doors["gcs_server"], token, _superlink(tree))
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)


def test_all_that_listens_is_known_and_on_loopback(running: Running) -> None:
    found = running.tree.listening()
    strangers = {name for name, _, _ in found if name not in OURS and not name.startswith("ray::")}
    assert len(strangers) == 1, f"only the SuperLink, a python, beside {OURS}: {sorted(found)}"
    assert {address for _, address, _ in found} == {"127.0.0.1"}, sorted(found)
    assert OURS <= {name for name, _, _ in found}
    programs = "\n".join(running.tree.commands)
    assert "dashboard/dashboard.py" not in programs and "monitor.py" not in programs.replace(
        "log_monitor.py", ""
    )


def test_nothing_answers_at_this_machines_other_addresses(running: Running) -> None:
    addresses = {
        item.address
        for items in psutil.net_if_addrs().values()
        for item in items
        if item.family == socket.AF_INET and not item.address.startswith("127.")
    }
    if not addresses:
        pytest.skip("this machine has no address but loopback")
    for name, _, port in running.tree.listening():
        for address in addresses:
            with socket.socket() as probe:
                probe.settimeout(5.0)
                assert probe.connect_ex((address, port)) != 0, f"{name} answers at {address}:{port}"


@pytest.mark.parametrize("known", ["nothing", "another token", "the token"])
def test_a_stranger_runs_no_code_in_ray(running: Running, tmp_path: Path, known: str) -> None:
    """The last case is the control: by the token alone the same attack succeeds."""
    marker = tmp_path / "marker"
    surroundings = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    surroundings |= {"HOME": str(tmp_path), "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
    if known != "nothing":
        token = running.token if known == "the token" else secrets.token_hex(32)
        surroundings |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("stranger.py")), running.gcs, str(marker)],
        env=surroundings, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    allowed = known == "the token"
    assert (done.returncode == 0) is allowed, done.stderr[-3000:]
    assert marker.exists() is allowed
    if not allowed:
        assert "uthenticat" in done.stderr, done.stderr[-3000:]
    assert running.process.poll() is None, "and the run goes on"


def test_no_service_of_rays_answers_without_the_token(running: Running) -> None:
    refused = set()
    for name, address, port in running.tree.listening():
        if f"{_reachable(address)}:{port}" == running.superlink or name == "ray::RuntimeEnvAgent":
            continue
        with grpc.insecure_channel(f"{_reachable(address)}:{port}") as channel:
            codes = {_code(channel, method) for method in HARMLESS}
        assert codes <= {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.UNIMPLEMENTED}, (name, codes)
        if grpc.StatusCode.UNAUTHENTICATED in codes:
            refused.add(name)
    assert {"gcs_server", "raylet", "flwr-simulation"} <= refused
    agent = next(item for item in running.tree.listening() if item[0] == "ray::RuntimeEnvAgent")
    assert _post(f"{_reachable(agent[1])}:{agent[2]}", "/get_or_create_runtime_env") == 401


@pytest.mark.parametrize(
    "path", ["control/start-run", "control/list-runs", "runtime/acquire-task", "fleet/activate-node"]
)
def test_the_superlink_takes_no_orders_without_its_credential(running: Running, path: str) -> None:
    assert _post(running.superlink, f"/v1/{path}") in (401, 403, 404)
    assert _post(running.superlink, f"/v1/{path}", secrets.token_hex(32)) in (401, 403, 404)


def test_no_secret_is_on_a_command_line(running: Running) -> None:
    folder = Path(running.tree.named("flwr-simulation").environ()["FLWR_HOME"])
    found = [
        running.token,
        (folder / "credential").read_text(),
        *(file.read_text() for file in (folder / "tasks").iterdir()),
    ]
    assert len(found) == 3 and all(len(secret) >= 32 for secret in found)
    for command in running.tree.commands:
        assert "--token\0" not in command, command
        assert not any(secret in command for secret in found), "a secret is in the list of processes"


def test_what_a_run_leaves_is_for_its_owner_alone(running: Running) -> None:
    running.stop()
    left = [running.home, *running.home.rglob("*")]
    assert {"mlflow.db", "history.jsonl", "recipe.json", "flower.log"} <= {path.name for path in left}
    opened = {
        str(path): oct(path.lstat().st_mode) for path in left if stat.S_IMODE(path.lstat().st_mode) & 0o077
    }
    assert not opened
    assert not [process for process in running.tree.look() if process.status() != psutil.STATUS_ZOMBIE]


def _superlink(tree: Tree) -> str:
    (found,) = {
        port for name, _, port in tree.listening() if name not in OURS and not name.startswith("ray::")
    }
    return f"127.0.0.1:{found}"


def _reachable(address: str) -> str:
    return "127.0.0.1" if address in ("::", "0.0.0.0") else address


def _code(channel: grpc.Channel, method: str) -> grpc.StatusCode:
    try:
        channel.unary_unary(method)(b"", timeout=20)
    except grpc.RpcError as error:
        return error.code()
    return grpc.StatusCode.OK


def _post(address: str, path: str, credential: str | None = None) -> int:
    headers = {"Content-Type": "application/protobuf"}
    if credential is not None:
        headers["Authorization"] = f"Bearer {credential}"
    try:
        with urllib.request.urlopen(
            urllib.request.Request(f"http://{address}{path}", b"", headers), timeout=20
        ) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return int(error.code)
