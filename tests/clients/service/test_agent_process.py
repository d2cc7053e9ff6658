"""A real agent process behind its socket: the same answers as in simulation, and none lost to a kill."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from device import Process, fork_agent, greeting, health, order, start_agent
from flwr.app import RecordDict

from clients.home.home import Home
from clients.protocol.content import to_bytes
from clients.protocol.messages import CONFIG, METRICS, OUTBOX, unpack_details, unpack_envelopes
from clients.service.agent_process import CONNECTIONS
from clients.service.service import Service
from clients.transport.agent_client import AgentAway, AgentRefused, call_agent
from symphony_fl.cli.main import main
from symphony_fl.config.options import Recipe
from symphony_fl.config.recipe import load_recipe
from symphony_fl.edge.frames import FrameError, connect, receive_frame, send_frame
from symphony_fl.storage.folders import write_atomically

Start = Callable[[Path], Process]


@pytest.fixture
def start() -> Iterator[Start]:
    processes: list[Process] = []

    def start_it(folder: Path) -> Process:
        processes.append(fork_agent(folder, 0))
        return processes[-1]

    yield start_it
    for process in processes:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return load_recipe("smoke", ("agents=2", "rounds=6"))


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, subprocess.Popen[bytes]]]:
    """A device and its agent process, started by `python -m` as on a device."""
    folder = tmp_path_factory.mktemp("device")
    process = start_agent(folder, 0)
    yield folder, process
    process.kill()
    process.wait()


@pytest.fixture(scope="module")
def device(started: tuple[Path, subprocess.Popen[bytes]]) -> Path:
    """The device whose agent process goes through all tests that do not kill it; a run of its own for each of them."""
    return started[0]


def _peer(tmp_path: Path, recipe: Recipe) -> tuple[str, dict[int, dict[str, bytes]]]:
    """The other agent's did:key and its envelopes of three rounds."""
    service = Service.in_process(1, tmp_path / "peer")
    did = str(service.answer("hello", greeting(recipe)).config_records[CONFIG]["did"])
    rounds = {
        round: unpack_envelopes(service.answer("train", order(recipe, round, {}, {})), OUTBOX)
        for round in (1, 2, 3)
    }
    return did, rounds


def _figures(answer: RecordDict) -> tuple[str, float, dict[str, bytes]]:
    return (
        unpack_details(answer)["adapter"],
        answer.metric_records[METRICS]["reward"],
        unpack_envelopes(answer, OUTBOX),
    )


def test_a_lasting_agent_answers_as_one_opened_anew_for_every_message(
    tmp_path: Path, recipe: Recipe, device: Path
) -> None:
    did, envelopes = _peer(tmp_path, recipe)
    agent_socket = device / "agent.sock"
    # The same key in both places, or signatures would differ.
    here = Service.in_process(0, tmp_path / "here")
    (tmp_path / "here").mkdir()
    write_atomically(tmp_path / "here" / "key", Home(tmp_path / "unused", device).key(), mode=0o600)
    ask = {
        "socket": lambda kind, content: call_agent(agent_socket, kind, content),
        "here": lambda kind, content: here.answer(kind, content),
    }
    found: dict[str, list[object]] = {"socket": [], "here": []}
    for place, answer in ask.items():
        hello = answer("hello", greeting(recipe)).config_records[CONFIG]
        found[place].append((hello["did"], hello["round"], hello["base"]))
        roster = {0: str(hello["did"]), 1: did}
        for round in (1, 2, 3):
            mail = {f"1/{round - 1}/0": envelopes[round - 1]["0"]} if round > 1 else {}
            reply = answer("train", order(recipe, round, mail, roster))
            found[place].append(_figures(reply))
            assert ("merged" in unpack_details(reply)["metrics"]) == (round > 1), (
                "figures of this message only"
            )
        scores = unpack_details(answer("evaluate", order(recipe, 3, {}, roster)))
        found[place].append({k: v for k, v in scores["metrics"].items() if k.startswith("accuracy")})
    assert found["socket"] == found["here"]
    report = health(device)
    assert (report["round"], report["run"]) == (3, "a-run")
    assert not list(device.glob("homes/*/key")), "one key for all runs"


def test_killed_over_a_round_it_answers_after_its_restart_and_stops_when_told(
    tmp_path: Path, start: Start
) -> None:
    long = load_recipe("smoke", ("agents=2", "rounds=6", "learner.steps=10"))
    device = tmp_path / "device"
    first = start(device)
    call_agent(device / "agent.sock", "hello", greeting(long))
    answers: list[RecordDict] = []
    asking = threading.Thread(
        target=lambda: answers.append(call_agent(device / "agent.sock", "train", order(long, 1, {}, {}))),
        daemon=True,
    )
    asking.start()
    while health(device)["busy"] != "train":  # answered while it learns
        time.sleep(0.01)
    first.kill()
    first.wait()
    assert not answers, "the round was over before the kill: the test tested nothing"
    second = start(device)
    asking.join(timeout=120)
    assert unpack_envelopes(answers[0], OUTBOX)
    again = call_agent(device / "agent.sock", "train", order(long, 1, {}, {}))
    assert _figures(again) == _figures(answers[0]), "a round asked for twice is trained once"
    second.send_signal(signal.SIGTERM)
    second.wait(timeout=60)
    assert not (device / "agent.sock").exists()
    with pytest.raises(AgentAway, match="no answer from an agent process"):
        call_agent(device / "agent.sock", "train", order(long, 2, {}, {}), patience=0.5)
    state = Home(device / "homes" / "a-run").load()
    assert state is not None and state.round == 1


def test_the_dead_take_up_no_place_and_no_time(tmp_path: Path, start: Start) -> None:
    """Nodes that die one after the other while it learns: its health is answered, so nobody kills it for that."""
    long = load_recipe("smoke", ("agents=2", "rounds=6", "learner.steps=60"))
    device = tmp_path / "device"
    start(device)
    call_agent(device / "agent.sock", "hello", greeting(long))
    body = to_bytes(order(long, 1, {}, {}))
    with connect(device / "agent.sock", timeout=5.0) as first:
        send_frame(first, "train", body)
        while health(device)["busy"] != "train":
            time.sleep(0.01)
        for _ in range(2 * CONNECTIONS):
            with connect(device / "agent.sock", timeout=5.0) as other:
                send_frame(other, "train", body)
            assert health(device)["busy"] == "train", "the round was over: the test tested nothing"
        first.settimeout(60.0)
        assert receive_frame(first)[0] == "ok"
    assert health(device)["messages"] < CONNECTIONS, "of the dead hardly any is answered"


def test_what_cannot_be_answered_is_refused_and_the_next_message_answered(
    recipe: Recipe, device: Path
) -> None:
    path = device / "agent.sock"
    with pytest.raises(AgentRefused, match="known are hello"):
        call_agent(path, "dance", RecordDict())
    with pytest.raises(AgentRefused, match="config.run = None: must be str"):
        call_agent(path, "train", RecordDict())
    with pytest.raises(AgentRefused, match="must be 1 to 128 letters"):
        call_agent(path, "hello", greeting(recipe, run="../../elsewhere"))
    for junk in (b"", b"SFL1", b"GET / HTTP/1.0\r\n\r\n", b"SFL1\x05train" + b"\xff" * 8):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(path))
            connection.sendall(junk)
    assert call_agent(path, "hello", greeting(recipe, "one")).config_records[CONFIG]["agent"] == 0
    with pytest.raises(AgentRefused, match="digest = '0000'"):
        broken = order(recipe, 1, {}, {}, "one")
        broken.config_records[CONFIG]["digest"] = "0000"
        call_agent(path, "train", broken)
    assert call_agent(path, "hello", greeting(recipe, "another")).config_records[CONFIG]["round"] == 0
    assert {"one", "another"} <= {home.name for home in (device / "homes").iterdir()}


def test_a_device_has_one_agent_process(device: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["key", str(device)]) == 2
    assert "another process works in this home" in capsys.readouterr().err


def test_a_folder_open_to_others_is_refused(recipe: Recipe, device: Path) -> None:
    device.chmod(0o755)
    try:
        with pytest.raises(FrameError, match="must be 0700"):
            call_agent(device / "agent.sock", "hello", greeting(recipe))
    finally:
        device.chmod(0o700)


THROUGH_THE_APP = """
import sys
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity
from clients.client_app import app
from device import greeting
from symphony_fl.storage.folders import write_atomically
from symphony_fl.config.recipe import load_recipe

recipe = load_recipe("smoke", ("agents=2", "rounds=6"))
TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 7, 1
message = Message(greeting(recipe), 7, "query.hello")
message.metadata.__dict__["_message_id"] = "1"
context = Context(1, 7, {"partition-id": 0, "socket": sys.argv[1]}, RecordDict(), {})
reply = app(message=message, context=context)
print(reply.content.config_records["config"]["agent"])
print(sorted({"torch", "transformers", "omegaconf", "ray"} & set(sys.modules)))
"""


def test_the_client_app_of_a_device_loads_no_model(device: Path) -> None:
    paths = os.pathsep.join([os.getcwd(), str(Path("tests/support/devices").resolve())])
    done = subprocess.run(
        [sys.executable, "-c", THROUGH_THE_APP, str(device / "agent.sock")],
        env=os.environ | {"PYTHONPATH": paths}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    number, loaded = done.stdout.split("\n")[:2]
    assert (number, loaded) == ("0", "['omegaconf']")  # the test's own import of the recipe


def test_told_to_stop_it_ends_well(started: tuple[Path, subprocess.Popen[bytes]]) -> None:
    """The last test of this device."""
    device, process = started
    process.terminate()
    assert process.wait(timeout=60) == 0
    assert not (device / "agent.sock").exists()
