"""`symphony up`: everything one device runs, kept running.

    FOLDER/ (0700)   key, node.key, node.pub   who the device is (`keys.py`)
                     agent.sock, homes/        the agent process's
                     secret                    between SuperNode and executor
                     flwr/, logs/              Flower's files; what each program says

Three programs: the agent process, with the model in it; Flower's SuperNode; and the executor, which hands the node's
messages to the agent. The last two are one unit: a node that comes back has a new port and a new secret. Only the code
installed here runs: no bundle that comes with a run is fetched, and with a Flower that is not known nothing starts.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from symphony_fl.edge.frames import HEALTH, OK, connect, receive_frame, send_frame
from symphony_fl.edge.keys import identity, node_key
from symphony_fl.edge.supervisor import Program, Supervisor, Unit
from symphony_fl.storage.folders import locked
from symphony_fl.storage.private import EdgeError, private_folder

CHECKOUT = Path(__file__).resolve().parent.parent.parent
HEALTH_SECONDS = 5.0  # an agent process must answer within
GIGABYTE = 1 << 30
FLOWER = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "PYTHONUNBUFFERED": "1",
}


@dataclass(frozen=True)
class Device:
    """A device as its owner describes it.

    Attributes
    ----------
    folder : where all of it lies, private
    number : the agent's number in the runs it takes part in
    superlink : host:port
    root_certificates : of the SuperLink; None for those of the system
    insecure : no TLS, hence no node authentication
    threads : of torch
    longest : seconds an agent may be busy with one message before it is taken for hanging
    direct : ip:port where neighbours reach the agent where a run has them exchange mail directly; empty for any
    announce : ip:port under which they do, where a router stands between; empty for none
    models, sources : what received recipes may name beside what this project ships (`allowed.py`)
    """

    folder: Path
    number: int
    superlink: str
    root_certificates: Path | None
    insecure: bool
    threads: int = 1
    longest: float = 7200.0
    direct: str = ""
    announce: str = ""
    models: Sequence[str] = ()
    sources: Sequence[str] = ()


@dataclass(frozen=True)
class Needs:
    """What a device must have: free memory and disk in GB, and an accelerator by torch's name, or "none"."""

    memory: float = 1.0
    disk: float = 1.0
    accelerator: str = "none"


def up(device: Device, needs: Needs, say: Callable[[str], None]) -> None:
    """Run until stopped.

    Raises
    ------
    EdgeError
        The device lacks something, its folder is not private, or it is up already.
    """
    folder = private_folder(device.folder)
    for line in check(folder, needs):
        say(line)
    did, (_, public) = identity(folder), node_key(folder)
    say(f"agent {device.number}: {did}")
    if not device.insecure:
        say(f"this device's public key, to be admitted to the network: {public}")
    check_flower(["clients.flower_patches.internals"], environment(folder, device.threads))
    with locked(folder / "up.lock", 1.0, EdgeError(f"{folder}: this device is up already")):
        supervisor = Supervisor(environment(folder, device.threads), CHECKOUT, _made(folder / "logs"), say)
        agent = Unit("agent", lambda: [_agent(device, folder)])
        node = Unit("node", lambda: _node(device, folder))
        supervisor.run([agent, node])
    say("stopped")


def check(folder: Path, needs: Needs) -> list[str]:
    """What the device has, a line each.

    Raises
    ------
    EdgeError
        Less than it must have.
    """
    lines = []
    for name, has, wants in (
        ("memory", _free_memory(), needs.memory),
        ("disk", shutil.disk_usage(folder).free / GIGABYTE, needs.disk),
    ):
        if has is None:
            lines.append(f"{name}: unknown on this system")
            continue
        if has < wants:
            raise EdgeError(f"{name}: {has:.1f} GB free, at least {wants:g} GB wanted")
        lines.append(f"{name}: {has:.1f} GB free")
    if needs.accelerator != "none":
        lines.append(f"accelerator: {_accelerator(needs.accelerator)}")
    return lines


def health(folder: Path) -> dict[str, object] | None:
    """The agent process's own word on how it is; None if it does not answer."""
    try:
        with connect(folder / "agent.sock", HEALTH_SECONDS) as connection:
            send_frame(connection, HEALTH, b"")
            word, body = receive_frame(connection)
        values: dict[str, object] = json.loads(body)
    except (OSError, ValueError):
        return None
    return values if word == OK else None


def environment(folder: Path, threads: int) -> dict[str, str]:
    """Of all programs of a device or network: this Python's programs first, Flower's files in the folder."""
    programs = str(Path(sys.executable).parent)
    paths = [str(CHECKOUT), os.environ.get("PYTHONPATH", "")]
    return {
        **os.environ,
        **FLOWER,
        "PATH": programs + os.pathsep + os.environ.get("PATH", ""),
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "FLWR_HOME": str(folder / "flwr"),
        "OMP_NUM_THREADS": str(threads),
    }


def free_port() -> int:
    """A loopback port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _agent(device: Device, folder: Path) -> Program:
    command = [sys.executable, "-m", "clients.service.agent_process"]
    command += ["--device", str(folder), "--number", str(device.number)]
    command += ["--direct", device.direct, "--announce", device.announce]
    command += [f"--model={name}" for name in device.models]
    command += [f"--source={entry}" for entry in device.sources]
    return Program("agent", command, _last_line, healthy=lambda: _well(health(folder), device.longest))


def _well(word: dict[str, object] | None, longest: float) -> bool:
    """Whether an agent process answers, and is not stuck over one message."""
    busy = None if word is None else word.get("busy_seconds")
    return isinstance(busy, int | float) and busy < longest


def _node(device: Device, folder: Path) -> Sequence[Program]:
    """SuperNode and executor; the secret between them and the node's port are new at every start."""
    address = f"127.0.0.1:{free_port()}"
    command = [sys.executable, "-m", "clients.device.supernode", "--superlink", device.superlink]
    command += ["--port", address.rpartition(":")[2]]
    command += [
        "--node-config",
        f"partition-id={device.number} socket={json.dumps(str(folder / 'agent.sock'))}",
    ]
    if device.insecure:
        command.append("--insecure")
    else:
        command += ["--auth-supernode-private-key", str(folder / "node.key")]
        if device.root_certificates is not None:
            command += ["--root-certificates", str(device.root_certificates)]
    secret = folder / "secret"
    secret.unlink(missing_ok=True)
    descriptor = os.open(secret, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(os.urandom(32))
    command += ["--superexec-auth-secret-file", str(secret)]
    executor = [sys.executable, "-m", "clients.device.warm_executor"]
    executor += ["--runtime-api-address", address, "--secret-file", str(secret)]
    return [Program("node", command, _explain_node), Program("executor", executor, _last_line)]


def check_flower(program: Sequence[str], surroundings: Mapping[str, str]) -> None:
    """Refuse to start with a Flower whose internals are not the ones that keep strangers' code and commands out.

    Parameters
    ----------
    program : the module, and its options, that compares Flower with what is known
    surroundings : its environment

    Raises
    ------
    EdgeError
        It is another one. There is no fallback: Flower's own programs let both in.
    """
    asked = subprocess.run(
        [sys.executable, "-m", *program],
        cwd=CHECKOUT,
        env=surroundings,
        capture_output=True,
        text=True,
        check=False,
    )
    if asked.returncode:
        raise EdgeError(_last_line(asked.stderr) or f"{' '.join(program)}: status {asked.returncode}")


def _explain_node(tail: str) -> str:
    """Flower ends with status 1 whatever happened; its log has the exit code."""
    said = tail.rpartition("Starting Flower SuperNode")[2]
    if "Exit Code: 305" in said:
        return (
            "the SuperLink refused the connection (Flower's exit code 305): it still waits for this node's last"
            " connection to lapse, which takes up to a minute, its key is not admitted, or this device's clock is wrong"
        )
    return _last_line(said) if any(word in said for word in ("Exit Code", "Error", "given up")) else ""


def _last_line(tail: str) -> str:
    lines = [line.strip() for line in tail.splitlines() if line.strip()]
    return lines[-1][-300:] if lines else ""


def _free_memory() -> float | None:
    """GB that programs can have now; None where the system does not say."""
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024 / GIGABYTE
    except OSError:
        pass
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / GIGABYTE
    except (ValueError, OSError):
        return None


def _accelerator(name: str) -> str:
    """Ask torch, in a process of its own: it takes seconds and memory."""
    code = (
        "import sys, torch; d = torch.device(sys.argv[1]); torch.zeros(1, device=d);"
        "print(torch.cuda.get_device_name(d) if d.type == 'cuda' else d)"
    )
    done = subprocess.run([sys.executable, "-c", code, name], capture_output=True, text=True, check=False)
    if done.returncode:
        raise EdgeError(f"--accelerator {name}: not usable here ({_last_line(done.stderr)})")
    return done.stdout.strip()


def _made(folder: Path) -> Path:
    folder.mkdir(exist_ok=True, mode=0o700)
    return folder
