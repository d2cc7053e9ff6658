"""Real devices on loopback: TLS, node authentication, and `kill -9` of every part of it during a run.

The same run is computed here, without Flower: what the devices end up with must be that, to the bit.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pair
import pytest
from edge_processes import Behind, Loopback

from clients.home.home import Home
from clients.protocol.messages import unpack_details
from symphony_fl.config.recipe import load_recipe
from symphony_fl.edge.device import free_port

pytestmark = pytest.mark.slow
ROUNDS = 6
OVERRIDES = ("agents=2", f"rounds={ROUNDS}", f"tasks.evaluate_every={ROUNDS}")


@pytest.fixture(scope="module")
def loopback(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Behind]:
    network = Behind(tmp_path_factory.mktemp("edge"))
    try:
        network.start_network()
        for number in (0, 1):
            network.start_device(number)
        yield network
    finally:
        network.close()


def _calm(folder: Path) -> dict[str, str]:
    """Agent -> digest of its adapter at the end, of two agents that hand each other their mail."""
    recipe = load_recipe("smoke", OVERRIDES)
    both = pair.play(recipe, folder)
    return {str(n): unpack_details(both.evaluate(n))["adapter"] for n in (0, 1)}


def _round(run: Path) -> int:
    """The last round all agents have answered."""
    history = run / "history.jsonl"
    if not history.exists():
        return 0
    events = [json.loads(line) for line in history.read_text().splitlines()[:-1]]
    rounds = {
        n: max((e["round"] for e in events if e["kind"] == "train" and e["agent"] == n), default=0)
        for n in (0, 1)
    }
    return min(rounds.values())


def test_agent_proxy_and_superlink_killed_over_a_run_which_ends_as_if_nothing_had_been(
    loopback: Loopback, tmp_path: Path
) -> None:
    run, result = tmp_path / "first", tmp_path / "result.json"
    done = loopback.symphony(
        "run", "run", "smoke", *OVERRIDES, "--run-dir", str(run), "--json", str(result),
        "--network", str(loopback.network),
    )  # fmt: skip
    loopback.wait(lambda: _round(run) >= 1, 240)
    loopback.kill("d0", "clients.service.agent_process")
    loopback.wait(lambda: _round(run) >= 2, 240)
    loopback.kill("network", "fleet_proxy")
    loopback.wait(lambda: _round(run) >= 3, 240)
    loopback.kill("network", "strategies.superlink.guard")
    assert done.wait(timeout=300) == 0, loopback.said()
    found = json.loads(result.read_text())
    assert found["adapter_digests"] == _calm(tmp_path), "nothing was lost, nothing was counted twice"
    assert found["refused"] == {} and found["rounds"] == ROUNDS
    assert "agent ended (signal 9)" in (loopback.folder / "d0.txt").read_text()
    said = (loopback.folder / "network.txt").read_text()
    assert "superlink ended (signal 9)" in said and "proxy ended (signal 9)" in said


def test_a_killed_supernode_is_back_with_what_its_agent_had_done(loopback: Loopback, tmp_path: Path) -> None:
    run, result = tmp_path / "second", tmp_path / "result.json"
    rounds = ("agents=2", "rounds=30", "tasks.evaluate_every=30", "learner.steps=0")
    done = loopback.symphony(
        "run", "run", "smoke", *rounds, "--run-dir", str(run), "--json", str(result),
        "--network", str(loopback.network),
    )  # fmt: skip
    loopback.wait(lambda: _round(run) >= 1, 240)
    loopback.kill("d1", "clients.device.supernode")
    assert done.wait(timeout=400) == 0, loopback.said()
    found = json.loads(result.read_text())
    assert found["rounds"] == 30 and found["refused"] == {}
    assert "Flower's exit code 305" in (loopback.folder / "d1.txt").read_text()
    for number in (0, 1):
        state = Home(loopback.device(number) / "homes" / "second").load()
        assert state is not None and state.round == 30


def test_a_supernode_whose_connection_ends_in_a_tls_handshake_goes_on(loopback: Behind) -> None:
    """Flower's own takes that for a wrong certificate and gives up; it is then refused for a minute."""
    said, log = loopback.folder / "d1.txt", loopback.device(1) / "logs" / "node.log"
    back, starts = "Connection successful after", "SuperNode ID"
    before, successes = log.read_text().count(starts), log.read_text().count(back)
    loopback.forwarder.target = free_port()  # connections are taken, and end before the handshake does
    loopback.forwarder.shut()
    loopback.forwarder.open()
    loopback.wait(lambda: "retrying in" in log.read_text().rpartition(starts)[2], 120)
    loopback.forwarder.target = loopback.port
    loopback.wait(lambda: log.read_text().count(back) > successes, 120)
    assert log.read_text().count(starts) == before and "given up" not in said.read_text()


def test_what_is_secret_is_private(loopback: Loopback) -> None:
    device, network = loopback.device(0), loopback.network
    secrets = [device / name for name in ("key", "node.key", "secret", "agent.sock")]
    secrets += [network / name for name in ("server.key", "secret", "credential", "fleet-credential")]
    for path in [*secrets, network / "inner" / "server.key", network / "flwr" / "credentials.yaml"]:
        assert not stat.S_IMODE(os.stat(path).st_mode) & 0o077, path
