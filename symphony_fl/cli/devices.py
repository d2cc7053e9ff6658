"""Commands of devices and networks: `network`, `up`, `status`, `key`."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from symphony_fl.cli.words import ResultFile

DEFAULT_PORT = 9092


def up(
    superlink: Annotated[str, typer.Option("--superlink", metavar="HOST:PORT", help="the network to join")],
    number: Annotated[int, typer.Option("--number", metavar="N", help="this agent's number: 0, 1, ...")],
    root_certificates: Annotated[
        str | None,
        typer.Option(
            "--root-certificates", metavar="FILE", help="the network's ca.pem (default: the system's)"
        ),
    ] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="no TLS and no authentication; for trials only")
    ] = False,
    device: Annotated[
        str | None,
        typer.Option("--device", metavar="DIR", help="the device's folder (default: ~/.symphony-fl/device)"),
    ] = None,
    memory: Annotated[float, typer.Option("--memory", metavar="GB", help="free memory it must have")] = 1.0,
    disk: Annotated[float, typer.Option("--disk", metavar="GB", help="free disk it must have")] = 1.0,
    accelerator: Annotated[
        str, typer.Option("--accelerator", metavar="NAME", help="that it must have: cuda, cuda:1, mps")
    ] = "none",
    longest: Annotated[
        float,
        typer.Option("--longest", metavar="S", help="an agent busy longer than that is restarted"),
    ] = 7200.0,
    threads: Annotated[int, typer.Option("--threads", metavar="N", help="threads of torch")] = 1,
    direct: Annotated[
        str,
        typer.Option(
            "--direct",
            metavar="IP:PORT",
            help="UDP, where neighbours reach this agent (exchange.transport=iroh; default: any port of all "
            "interfaces)",
        ),
    ] = "",
    announce: Annotated[
        str,
        typer.Option(
            "--announce",
            metavar="IP:PORT",
            help="where they do from outside, if a router forwards a port",
        ),
    ] = "",
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            metavar="NAME",
            help="a model.name that runs may ask this device to load, beside tiny and smollm2; repeatable",
        ),
    ] = None,
    source: Annotated[
        list[str] | None,
        typer.Option(
            "--source",
            metavar="ENTRY",
            help="an entry of tasks.sources that runs may ask it to read, word for word; repeatable",
        ),
    ] = None,
) -> int:
    """Take part with this device: agent and SuperNode, kept running until stopped."""
    from symphony_fl.edge.device import Device, Needs
    from symphony_fl.edge.device import up as device_up
    from symphony_fl.storage.folders import symphony_folder

    folder = Path(device) if device else symphony_folder() / "device"
    root = Path(root_certificates).expanduser().resolve() if root_certificates else None
    join = (folder, number, superlink, root, insecure)
    joined = Device(*join, threads, longest, direct, announce, model or [], source or [])
    device_up(joined, Needs(memory, disk, accelerator), _say)
    return 0


def network(
    folder: Annotated[
        str | None,
        typer.Argument(
            metavar="DIR", help="its folder (default: ~/.symphony-fl/network)", show_default=False
        ),
    ] = None,
    host: Annotated[str, typer.Option("--host", help="address to listen on; 0.0.0.0 for all")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", help="port to listen on")] = DEFAULT_PORT,
    name: Annotated[
        list[str] | None,
        typer.Option("--name", metavar="NAME", help="host name or address devices use; repeatable"),
    ] = None,
    certificate: Annotated[
        str | None,
        typer.Option("--certificate", metavar="FILE", help="server certificate (default: one is made)"),
    ] = None,
    key_file: Annotated[str | None, typer.Option("--key", metavar="FILE", help="its private key")] = None,
    authority: Annotated[
        str | None,
        typer.Option("--authority", metavar="FILE", help="certificate of the authority that signed it"),
    ] = None,
) -> int:
    """Run a SuperLink with TLS and node authentication for devices to join."""
    from symphony_fl.edge.network import Network
    from symphony_fl.edge.network import network as run_network

    files = [
        Path(item).expanduser().resolve() if item else None for item in (certificate, key_file, authority)
    ]
    run_network(Network(network_folder(folder), host, port, name or [], *files), _say)
    return 0


def status(
    device: Annotated[
        str | None, typer.Option("--device", metavar="DIR", help="only of the device in this folder")
    ] = None,
    run: Annotated[
        str | None, typer.Option("--run", metavar="DIR", help="only of the run in this folder, or newest")
    ] = None,
    json_file: ResultFile = None,
) -> int:
    """How this device is, and how the agents of a run are."""
    from symphony_fl.edge.status import device_lines, device_status, newest_run, run_status, run_table
    from symphony_fl.storage.folders import symphony_folder, write_json
    from symphony_fl.storage.private import EdgeError

    asked = device is not None or run is not None
    folder = Path(device or symphony_folder() / "device").expanduser()
    runs = symphony_folder() / "runs"
    found: dict[str, Any] = {}
    if device is not None or (not asked and folder.exists()):
        found["device"] = device_status(folder)
        print(f"device {folder}\n{device_lines(found['device'])}")
    if run is not None or (not asked and runs.exists()):
        where = newest_run(runs) if run in (None, "newest") else Path(str(run)).expanduser()
        agents = run_status(where)
        found |= {"run": str(where), "agents": [asdict(agent) for agent in agents]}
        print(f"run {where}\n{run_table(agents, time.time())}")
    if not found:
        raise EdgeError(f"{symphony_folder()}: neither a device nor a run is here; see --device and --run")
    if json_file:
        write_json(Path(json_file).expanduser(), found)
    return 0


def key(
    home_folder: Annotated[str, typer.Argument(metavar="DIR", help="the agent's home")],
    rotate: Annotated[
        bool, typer.Option("--rotate", help="the old key signs over to a fresh one, and is gone")
    ] = False,
    accept: Annotated[
        bool,
        typer.Option(
            "--accept",
            help="key and pins of this home are as its owner wants them, though others were here, or are gone",
        ),
    ] = False,
) -> int:
    """Print the did:key of an agent's home, made if there is none; --rotate changes its key; --accept confirms what
    is there."""
    from symphony_fl.identity.key_file import KEY_FILE, KeyFileError, open_key_file, rotate_key
    from symphony_fl.storage.folders import locked

    if rotate and accept:
        raise typer.BadParameter("not together with --rotate", param_hint="--accept")
    home = Path(home_folder).expanduser()
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    with locked(home / "home.lock", 10.0, KeyFileError(f"{home}: another process works in this home")):
        path = home / KEY_FILE
        print((rotate_key(path) if rotate else open_key_file(path, accept=accept)).did)
    return 0


def network_folder(named: str | None) -> Path:
    """The folder of a network, or the usual one."""
    from symphony_fl.storage.folders import symphony_folder

    return Path(named).expanduser().resolve() if named else symphony_folder() / "network"


def _say(line: str) -> None:
    print(f"symphony: {line}", flush=True)
