"""A stranger at a real network, who has its authority's certificate, its port, and an account on its machine."""

from __future__ import annotations

import json
import shutil
import ssl
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from edge_processes import Loopback
from fastapi.routing import iter_route_contexts
from flwr.superlink.main import create_app
from proxied import PULL, PUSH, new_node, signed

from symphony_fl.edge.network import CONNECTION
from symphony_fl.launch.local_superlink import APP_FOLDER

pytestmark = pytest.mark.slow
MEGABYTE = 1 << 20


class Open(Loopback):
    """A network that listens on all interfaces."""

    def start_network(self) -> None:
        """Returns when operators are served."""
        self.symphony("network", "network", str(self.network), "--host", "0.0.0.0", "--port", str(self.port))
        self.wait((self.network / "flwr" / "credentials.yaml").exists, 60)
        self.wait(lambda: self.flwr(self.network / "flwr", "supernode", "list")["success"], 60)

    @property
    def local(self) -> str:
        """Where the SuperLink listens."""
        found = tomllib.loads((self.network / "flwr" / "config.toml").read_text())
        return str(found["superlink"][CONNECTION]["address"])

    def flwr(self, home: Path, *command: str) -> dict[str, Any]:
        """What `flwr` answers, with this folder for its own."""
        done = subprocess.run(
            ["flwr", *command, CONNECTION, "--format", "json"],
            env=self.environment | {"FLWR_HOME": str(home), "FLWR_DISABLE_UPDATE_CHECK": "1"},
            cwd=APP_FOLDER, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        found: dict[str, Any] = json.loads(done.stdout[done.stdout.index("{") :])
        return found

    def client(self, address: str, authority: Path) -> httpx.Client:
        """HTTPS to it."""
        return httpx.Client(
            base_url=f"https://{address}",
            verify=ssl.create_default_context(cafile=str(authority)),
            timeout=60,
        )

    def programs(self) -> list[psutil.Process]:
        """Of the network."""
        return psutil.Process(self.commands["network"].pid).children(recursive=True)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Open]:
    made = Open(tmp_path_factory.mktemp("open"))
    try:
        made.start_network()
        yield made
    finally:
        made.close()


def _stranger(network: Open, folder: Path, address: str, authority: Path) -> Path:
    """A home of `flwr` without the credential."""
    (folder / "config.toml").write_text(
        f"[superlink.{CONNECTION}]\naddress = {json.dumps(address)}\nroot-certificates = {json.dumps(str(authority))}\n"
    )
    return folder


def test_only_the_proxy_listens_beyond_loopback(network: Open) -> None:
    listening = {
        (found.laddr.ip, found.laddr.port)
        for program in network.programs()
        for found in program.net_connections("inet")
        if found.status == psutil.CONN_LISTEN
    }
    host, _, port = network.local.rpartition(":")
    assert listening == {("0.0.0.0", network.port), (host, int(port))} and host == "127.0.0.1"


def test_no_route_of_flower_is_there_for_a_stranger(network: Open, tmp_path: Path) -> None:
    """Nor for one who signs as a node does; not on the network's port, nor on the SuperLink's."""
    routes = sorted(
        (method, context.path)
        for context in iter_route_contexts(create_app().routes)
        for method in context.route.methods or ()  # type: ignore[union-attr]
    )
    assert len(routes) > 70
    plain = {"content-type": "application/protobuf"}
    by_a_node = plain | signed(new_node(tmp_path))
    found: dict[tuple[str, int], int] = {}
    for place, address, authority in (
        ("port", f"127.0.0.1:{network.port}", network.network / "ca.pem"),
        ("loopback", network.local, network.network / "inner" / "ca.pem"),
    ):
        with network.client(address, authority) as client:
            for method, path in routes:
                for shown in (plain, by_a_node):
                    status = client.request(method, path, headers=shown, content=b"").status_code
                    found[place, status] = found.get((place, status), 0) + 1
                    if (place, path) != ("loopback", "/health"):
                        assert status in (401, 404, 412), (place, method, path, status)
    print(found)
    assert set(found) == {
        ("port", 401), ("port", 404), ("port", 412), ("loopback", 200), ("loopback", 401), ("loopback", 404),
    }  # fmt: skip


@pytest.mark.parametrize("place", ["port", "loopback"])
def test_flowers_own_commands_do_nothing_without_the_credential(
    network: Open, tmp_path: Path, place: str
) -> None:
    at = {
        "port": (f"127.0.0.1:{network.port}", network.network / "ca.pem"),
        "loopback": (network.local, network.network / "inner" / "ca.pem"),
    }
    home = _stranger(network, tmp_path, *at[place])
    new_node(tmp_path)
    commands = (["supernode", "list"], ["list"], ["supernode", "register", str(tmp_path / "node.pub")])
    for command in (*commands, ["run", str(APP_FOLDER)]):
        assert network.flwr(home, *command)["success"] is False, command
    operator = network.network / "flwr"
    assert network.flwr(operator, "supernode", "list")["nodes"] == []
    assert network.flwr(operator, "list")["runs"] == []


def test_two_hundred_megabytes_are_cut_and_fill_nobodys_memory(network: Open, tmp_path: Path) -> None:
    """Even of an admitted device, by a length it admits to or by pieces without end."""
    key = new_node(tmp_path)
    shutil.copy(tmp_path / "node.pub", network.network / "nodes" / "big.pub")
    network.wait(lambda: "admitted big.pub" in (network.folder / "network.txt").read_text(), 60)
    programs = [
        found
        for part in ("fleet_proxy", "strategies.superlink.guard")
        for found in network.parts("network", part)
    ]
    before, sent, most = [program.memory_info().rss for program in programs], 0, [0, 0]

    def pieces() -> Iterator[bytes]:
        nonlocal sent, most
        while sent < 200 * MEGABYTE:
            sent += MEGABYTE
            yield bytes(MEGABYTE)
            most = [max(pair) for pair in zip(most, (p.memory_info().rss for p in programs), strict=True)]

    with network.client(f"127.0.0.1:{network.port}", network.network / "ca.pem") as client:
        for _ in range(3):
            for length in ({}, {"content-length": str(200 * MEGABYTE)}):
                sent = 0
                try:
                    status = client.post(PUSH, headers=signed(key) | length, content=pieces()).status_code
                    assert status == 413
                except httpx.TransportError:
                    pass  # cut while it was still sending
                assert sent < 40 * MEGABYTE
        assert client.post(PULL, headers=signed(key), content=b"").status_code != 413
    growth = [(high - low) / MEGABYTE for high, low in zip(most, before, strict=True)]
    print(f"grew by {growth[0]:.1f} MB (proxy) and {growth[1]:.1f} MB (SuperLink)")
    assert growth[0] < 16 and growth[1] < 48
    assert "refused body_too_large" in (network.network / "logs" / "proxy.log").read_text()


def test_no_secret_is_in_the_list_of_processes(network: Open, tmp_path: Path) -> None:
    """Not while a run goes on either, whose ServerApp is handed the run's token."""
    network.symphony(
        "run",
        "run",
        "smoke",
        "agents=2",
        "--run-dir",
        str(tmp_path / "run"),
        "--network",
        str(network.network),
    )
    network.wait(lambda: bool(_serverapps(network)), 120)
    (app,) = _serverapps(network)
    words = app.cmdline()
    token = Path(words[words.index("--token-file") + 1]).read_text()
    secrets = [token, *((network.network / name).read_text() for name in ("credential", "fleet-credential"))]
    assert all(len(secret) >= 32 for secret in secrets)
    lines = [" ".join(found.info["cmdline"] or ()) for found in psutil.process_iter(["cmdline"])]
    assert not [line for line in lines if any(secret in line for secret in secrets)]
    with network.client(network.local, network.network / "inner" / "ca.pem") as client:
        path, shown = "/v1/runtime/get-nodes", {"content-type": "application/protobuf"}
        assert client.post(path, headers=shown, content=b"").status_code == 401
        assert client.post(path, headers=shown | {"flwr-task-token": token}, content=b"").status_code == 200
    network.commands["run"].terminate()
    network.commands.pop("run").wait(30)


def _serverapps(network: Open) -> list[psutil.Process]:
    found = []
    for program in network.programs():
        try:
            if any(word.endswith("flwr-serverapp") for word in program.cmdline()):
                found.append(program)
        except psutil.NoSuchProcess:
            continue
    return found
