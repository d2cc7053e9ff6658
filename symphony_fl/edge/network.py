"""`symphony network`: a SuperLink that devices join, kept running.

    FOLDER/ (0700)   ca.pem                    give this one to the devices
                     server.pem, server.key    made here, unless --certificate and --key name others
                     nodes/*.pub               public keys of admitted devices: put a device's node.pub here
                     flower.db                 the SuperLink's memory: it may be killed, the run goes on
                     credential, ...           what operators and the proxy show the SuperLink (`credential.py`)
                     inner/                    the SuperLink's own certificate, for loopback
                     secret, flwr/, logs/      as on a device

Three programs. The SuperLink listens on loopback, behind a guard (`strategies/superlink/guard.py`). The proxy listens
where the operator said, and hands on what admitted devices may ask for (`fleet_proxy.py`). ServerApps run beside the
SuperLink, not inside it, started by an executor; so a SuperLink that dies takes no run with it, nor does the proxy.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from symphony_fl.edge.device import check_flower, environment, free_port
from symphony_fl.edge.keys import certificates
from symphony_fl.edge.supervisor import Program, Supervisor, Unit
from symphony_fl.launch.credential import credentials, hand_to_flower
from symphony_fl.launch.local_superlink import LaunchError, SuperLink
from symphony_fl.storage.folders import locked
from symphony_fl.storage.private import EdgeError, private_file, private_folder

CONNECTION = "symphony"  # the name of the network in Flower's configuration
ADMIT_SECONDS = 2.0  # between two looks into nodes/


@dataclass(frozen=True)
class Network:
    """A network as its operator describes it.

    Attributes
    ----------
    folder : where all of it lies, private
    host, port : where the proxy listens: all that others see of the network
    names : further host names and addresses devices use, for the certificate made here
    certificate, key, authority : PEM files, all or none
    """

    folder: Path
    host: str
    port: int
    names: Sequence[str]
    certificate: Path | None
    key: Path | None
    authority: Path | None


def network(network: Network, say: Callable[[str], None]) -> None:
    """Run until stopped.

    Raises
    ------
    EdgeError
        Its folder or keys are not private, it runs already, or this version of Flower is not known.
    """
    folder = private_folder(network.folder)
    authority, certificate, key = _certificates(network, folder)
    inner = certificates(private_folder(folder / "inner"), [])
    private_file(folder / "secret", os.urandom(32))
    operator, fleet = credentials(folder)
    nodes = folder / "nodes"
    for made in (nodes, folder / "logs", folder / "flwr"):
        made.mkdir(exist_ok=True, mode=0o700)
    surroundings = environment(folder, threads=1)
    check_flower(["strategies.superlink.guard", "--check"], surroundings)
    with locked(folder / "network.lock", 1.0, EdgeError(f"{folder}: this network runs already")):
        local = f"127.0.0.1:{free_port()}"
        (folder / "flwr" / "config.toml").write_text(_configuration(local, inner[0]))
        hand_to_flower(operator, folder / "flwr", local)
        say(f"devices join {network.host}:{network.port} with --root-certificates {authority}")
        say(f"admit a device by putting its node.pub into {nodes}")
        supervisor = Supervisor(surroundings, folder, folder / "logs", say)
        link = Unit("superlink", lambda: [_superlink(local, folder, inner, operator, fleet)])
        door = Unit("proxy", lambda: [_proxy(network, local, folder, certificate, key, inner[0], fleet)])
        apps = Unit("server", lambda: [_executor(local, folder, inner[0])])
        supervisor.run([link, door, apps], Admission(nodes, surroundings, say).look)
    say("stopped")


@contextmanager
def network_superlink(folder: Path) -> Iterator[SuperLink]:
    """That of the network that runs in `folder` on this machine; it is left running.

    Raises
    ------
    LaunchError
        There is none.
    EdgeError
        Its credential is open to others.
    """
    configuration = folder / "flwr" / "config.toml"
    if not configuration.exists():
        raise LaunchError(f"--network {folder}: no network here; start one by: symphony network {folder}")
    address = tomllib.loads(configuration.read_text())["superlink"][CONNECTION]["address"]
    hand_to_flower(credentials(folder)[0], folder / "flwr", address)
    yield SuperLink(environment(folder, threads=1), CONNECTION)


class Admission:
    """Registers the public keys in a folder with the SuperLink, each until it worked once."""

    def __init__(self, nodes: Path, surroundings: dict[str, str], say: Callable[[str], None]) -> None:
        self.nodes = nodes
        self.surroundings = surroundings
        self.say = say
        self._done: set[bytes] = set()
        self._unread: set[Path] = set()
        self._next = 0.0
        self._asked: tuple[Path, bytes, subprocess.Popen[str]] | None = None

    def look(self) -> None:
        """One step; never waits. At most one registration is under way."""
        if self._asked is not None:
            self._hear()
        elif time.monotonic() >= self._next:
            self._next = time.monotonic() + ADMIT_SECONDS
            for path in sorted(self.nodes.glob("*.pub")):
                key = self._read(path)
                if key is not None and key not in self._done:
                    command = ["flwr", "supernode", "register", str(path), CONNECTION]
                    process = subprocess.Popen(
                        command,
                        env=self.surroundings,
                        stdin=subprocess.DEVNULL,
                        stdout=subprocess.PIPE,
                        stderr=subprocess.STDOUT,
                        text=True,
                    )
                    self._asked = path, key, process
                    return

    def _read(self, path: Path) -> bytes | None:
        """A key; None, said once, of a file that cannot be read."""
        try:
            found = path.read_bytes().strip()
        except OSError as error:
            if path not in self._unread:
                self.say(f"{path.name} cannot be read: {error.strerror}")
            self._unread.add(path)
            return None
        self._unread.discard(path)
        return found

    def _hear(self) -> None:
        assert self._asked is not None
        path, key, process = self._asked
        if process.poll() is None:
            return
        said = process.communicate()[0]
        self._asked = None
        if process.returncode == 0 or "already in use" in said:
            self._done.add(key)
            self.say(f"admitted {path.name}")
        elif "nvalid" in said:
            self._done.add(key)
            self.say(f"{path.name} is no public key of a node: {' '.join(said.split())[:300]}")


def _superlink(
    local: str, folder: Path, inner: tuple[Path, Path, Path], operator: Path, fleet: Path
) -> Program:
    host, _, port = local.rpartition(":")
    command = [sys.executable, "-m", "strategies.superlink.guard"]
    command += ["--operator", str(operator), "--fleet", str(fleet), "--", "--host", host, "--port", port]
    for name, path in zip(("ca-certfile", "certfile", "keyfile"), inner, strict=True):
        command += [f"--ssl-{name}", str(path)]
    command += ["--enable-supernode-auth", "--isolation", "process", "--database", str(folder / "flower.db")]
    command += ["--superexec-auth-secret-file", str(folder / "secret")]
    return Program("superlink", command, _error)


def _proxy(
    network: Network, local: str, folder: Path, certificate: Path, key: Path, inner: Path, fleet: Path
) -> Program:
    command = [sys.executable, "-m", "symphony_fl.edge.fleet_proxy"]
    command += ["--listen", f"{network.host}:{network.port}"]
    command += ["--certificate", str(certificate), "--key", str(key)]
    command += ["--superlink", local, "--superlink-authority", str(inner)]
    command += ["--credential", str(fleet), "--nodes", str(folder / "nodes")]
    return Program("proxy", command, _error)


def _executor(local: str, folder: Path, authority: Path) -> Program:
    command = [sys.executable, "-m", "strategies.superlink.executor"]
    command += ["--runtime-api-address", local, "--root-certificates", str(authority)]
    return Program("server", [*command, "--superexec-auth-secret-file", str(folder / "secret")], _error)


def _certificates(network: Network, folder: Path) -> tuple[Path, Path, Path]:
    given = (network.authority, network.certificate, network.key)
    if not any(given):
        return certificates(folder, network.names)
    authority, certificate, key = given
    if authority is None or certificate is None or key is None:
        raise EdgeError("--authority, --certificate and --key: give all three or none")
    private_file(key, None)
    return authority, certificate, key


def _configuration(address: str, authority: Path) -> str:
    """Flower's configuration file. TOML's basic strings are JSON's."""
    return (
        f"[superlink]\ndefault = {json.dumps(CONNECTION)}\n\n[superlink.{CONNECTION}]\n"
        f"address = {json.dumps(address)}\nroot-certificates = {json.dumps(str(authority))}\n"
    )


def _error(tail: str) -> str:
    """What a program said last, if that was an error."""
    lines = [line.strip() for line in tail.splitlines() if "Error" in line]
    return lines[-1][-300:] if lines else ""
