"""A simulation that runs, and what others on this machine can make of it: nothing without a credential; then what came
of it: its result and its books, and the same numbers without Flower.

One real `symphony run` serves all tests, in their order: agents are held up until it has been looked at, then it ends.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import secrets
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pair
import psutil
import pytest
from mlflow import MlflowClient
from running_simulation import ACTOR, OURS, Running, reachable, running_simulation

from clients.protocol.messages import unpack_details
from symphony_fl.cli.main import main
from symphony_fl.config.recipe import load_recipe

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")

HARMLESS = (
    "/ray.rpc.InternalKVGcsService/InternalKVKeys",
    "/ray.rpc.NodeManagerService/GetNodeStats",
    "/ray.rpc.ObjectManagerService/FreeObjects",
    "/ray.rpc.CoreWorkerService/GetCoreWorkerStats",
)  # one question for every service of Ray's that listens; whoever may ask may also have code run


ROUNDS = 6
KEYS = {
    "recipe", "seed", "status", "accuracy_before", "accuracy_after", "accuracy_min_agent", "bytes_sent_per_agent",
    "bytes_received_per_agent", "rounds", "seconds", "adapter_digests",
}  # fmt: skip
Result = dict[str, Any]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running_simulation(tmp_path_factory, f"rounds={ROUNDS}") as run:
        yield run


@pytest.fixture(scope="module")
def result(running: Running) -> Result:
    """Of the run, which is over from here on."""
    return running.finish()


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


@pytest.fixture(scope="module")
def strangers(running: Running, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, str, bool]]:
    """What a stranger knows -> status and words of its program, and whether its code ran; all try at the same time."""
    started = {}
    for known in ("nothing", "another token", "the token"):
        folder = tmp_path_factory.mktemp("stranger")
        surroundings = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        surroundings |= {"HOME": str(folder), "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
        if known != "nothing":
            token = running.token if known == "the token" else secrets.token_hex(32)
            surroundings |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}
        command = [sys.executable, str(Path(__file__).with_name("stranger.py"))]
        process = subprocess.Popen(
            [*command, running.gcs, str(folder / "marker")],
            env=surroundings, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        started[known] = (process, folder / "marker")
    found = {}
    for known, (process, marker) in started.items():
        said, _ = process.communicate(timeout=300)
        found[known] = process.returncode, said, marker.exists()
    return found


@pytest.mark.parametrize("known", ["nothing", "another token", "the token"])
def test_a_stranger_runs_no_code_in_ray(
    running: Running, strangers: dict[str, tuple[int, str, bool]], known: str
) -> None:
    """The last case is the control: by the token alone the same attack succeeds."""
    status, said, code_ran = strangers[known]
    allowed = known == "the token"
    assert (status == 0) is allowed, said[-3000:]
    assert code_ran is allowed
    if not allowed:
        assert "uthenticat" in said, said[-3000:]
    assert running.process.poll() is None, "and the run goes on"


def test_no_service_of_rays_answers_without_the_token(running: Running) -> None:
    refused = set()
    for name, address, port in running.tree.listening():
        if f"{reachable(address)}:{port}" == running.superlink or name == "ray::RuntimeEnvAgent":
            continue
        awake = running.released() if name.startswith(ACTOR) else contextlib.nullcontext()
        with awake, grpc.insecure_channel(f"{reachable(address)}:{port}") as channel:
            codes = {_code(channel, method) for method in HARMLESS}
        assert codes <= {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.UNIMPLEMENTED}, (name, codes)
        if grpc.StatusCode.UNAUTHENTICATED in codes:
            refused.add(name)
    assert {"gcs_server", "raylet", "flwr-simulation"} <= refused
    agent = next(item for item in running.tree.listening() if item[0] == "ray::RuntimeEnvAgent")
    assert _post(f"{reachable(agent[1])}:{agent[2]}", "/get_or_create_runtime_env") == 401
    assert running.process.poll() is None, "and the run goes on"


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
    assert len(running.tree.commands) > 5
    for command in running.tree.commands:
        assert "--token\0" not in command, command
        assert not any(secret in command for secret in found), "a secret is in the list of processes"


def test_what_a_run_leaves_is_for_its_owner_alone(running: Running, result: Result) -> None:
    assert running.left_open() == {} and running.left_running() == []


def test_the_same_recipe_and_seed_give_the_same_adapters_with_and_without_flower(
    running: Running, result: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through Flower, in processes of ours, and for agents that only hand each other their mail."""
    file = tmp_path / "results" / "compare.json"
    monkeypatch.setenv("SYMPHONY_HOME", str(running.home))
    words = ["smoke", f"rounds={ROUNDS}", "--seeds", "0", "--in-process", "--json", str(file)]
    with contextlib.redirect_stdout(io.StringIO()) as output:
        assert main(["compare", *words]) == 0
    assert "accuracy after" in output.getvalue()
    (here,) = json.loads(file.read_text())["runs"]
    assert KEYS <= result.keys() and result["recipe"] == "smoke"
    assert (result["runtime"], here["runtime"]) == ("flower", "in-process")
    for name in ("adapter_digests", "accuracy_after", "rounds", "bytes_sent_per_agent", "refused", "status"):
        assert here[name] == result[name], name
    assert here["folder"] != result["folder"]
    recipe = load_recipe("smoke", [f"rounds={ROUNDS}"])
    alone = pair.play(recipe, tmp_path / "alone")
    digests = {str(n): unpack_details(alone.evaluate(n))["adapter"] for n in range(recipe.agents)}
    assert here["adapter_digests"] == digests and len(set(digests.values())) == 3


def test_gossip_books_add_up(result: Result) -> None:
    assert (result["status"], result["rounds"], result["refused"]) == ("completed", ROUNDS, {})
    assert set(result["adapter_digests"]) == {"0", "1", "2"}

    folder = Path(result["folder"])
    events = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    edges = [
        (name.removeprefix("bytes/edge/").split("-"), size)
        for event in events
        if event["kind"] == "bytes"
        for name, size in event["metrics"].items()
        if name.startswith("bytes/edge/")
    ]
    assert len(edges) == ROUNDS * 3 * 2, "three agents, two neighbours each"
    for agent in "012":
        sent = sum(size for (sender, _), size in edges if sender == agent)
        received = sum(size for (_, recipient), size in edges if recipient == agent)
        assert sent > 0 and received > 0
    assert (
        sum(size for _, size in edges) / 3
        == result["bytes_sent_per_agent"]
        == result["bytes_received_per_agent"]
    )

    client = MlflowClient(tracking_uri=result["mlflow_uri"])
    parent = client.get_run(result["mlflow_run"])
    assert parent.info.status == "FINISHED"
    assert parent.data.params["exchange.codec.name"] == "int8"
    assert parent.data.metrics["accuracy/mean"] == pytest.approx(result["accuracy_after"])
    children = client.search_runs(
        [parent.info.experiment_id], f"tags.mlflow.parentRunId = '{parent.info.run_id}'"
    )
    assert len(children) == 3
    for child in children:
        assert {
            "accuracy/mean",
            "reward/local",
            "bytes/sent",
            "bytes/flower",
            "drift",
            "affinity/sort",
            "specialisation",
        } <= child.data.metrics.keys()
        assert child.data.tags["did"].startswith("did:key:z6Mk")
    plots = {item.path for item in client.list_artifacts(parent.info.run_id, "plots")}
    assert {
        "plots/accuracy_by_round.png",
        "plots/accuracy_by_bytes.png",
        "plots/drift.png",
        "plots/skills.png",
        "plots/expertise.png",
        "plots/diversity.png",
    } <= plots
    assert {"diversity", "specialisation", "affinity/mean_abs"} <= parent.data.metrics.keys()
    assert "capabilities.json" in {item.path for item in client.list_artifacts(parent.info.run_id)}
    capabilities = json.loads((folder / "capabilities.json").read_text())
    for child in children:
        vector = capabilities.pop(child.data.tags["did"])
        assert len(vector) == 10
        for skill, capability in vector.items():
            assert capability["score"] == pytest.approx(child.data.metrics[f"accuracy/{skill}"])
            assert capability["low"] <= capability["score"] <= capability["high"]
            assert capability["attempts"] == 4
    assert not capabilities, "nobody else has any"
    assert client.list_artifacts(parent.info.run_id, "adapters/0000")


@pytest.mark.slow
def test_a_run_that_is_stopped_leaves_nothing_open(tmp_path_factory: pytest.TempPathFactory) -> None:
    with running_simulation(tmp_path_factory, "rounds=500", "tasks.evaluate_every=500") as run:
        run.stop()
        assert run.left_open() == {} and run.left_running() == []


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
