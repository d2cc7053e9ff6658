"""The options of `symphony up`, `symphony network` and `symphony status`."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from symphony_fl.edge.device import Device, Needs
from symphony_fl.edge.device import up as device_up
from symphony_fl.edge.network import Network
from symphony_fl.edge.network import network as run_network
from symphony_fl.edge.status import device_lines, device_status, newest_run, run_status, run_table
from symphony_fl.storage.folders import symphony_folder, write_json
from symphony_fl.storage.private import EdgeError

Add = Callable[[str, Callable[[argparse.Namespace], int]], argparse.ArgumentParser]
DEFAULT_PORT = 9092


def up(options: argparse.Namespace) -> int:
    """Take part with this device: agent and SuperNode, kept running until stopped."""
    folder = Path(options.device) if options.device else symphony_folder() / "device"
    root = Path(options.root_certificates).expanduser().resolve() if options.root_certificates else None
    join = (folder, options.number, options.superlink, root, options.insecure)
    reached = (options.direct, options.announce)
    device = Device(*join, options.threads, options.longest, *reached, options.model, options.source)
    device_up(device, Needs(options.memory, options.disk, options.accelerator), _say)
    return 0


def network(options: argparse.Namespace) -> int:
    """Run a SuperLink with TLS and node authentication for devices to join."""
    files = [
        Path(name).expanduser().resolve() if name else None
        for name in (options.certificate, options.key, options.authority)
    ]
    run_network(
        Network(network_folder(options.folder), options.host, options.port, options.name, *files), _say
    )
    return 0


def status(options: argparse.Namespace) -> int:
    """How this device is, and how the agents of a run are."""
    asked = options.device is not None or options.run is not None
    folder = Path(options.device or symphony_folder() / "device").expanduser()
    runs = symphony_folder() / "runs"
    found: dict[str, Any] = {}
    if options.device is not None or (not asked and folder.exists()):
        found["device"] = device_status(folder)
        print(f"device {folder}\n{device_lines(found['device'])}")
    if options.run is not None or (not asked and runs.exists()):
        run = newest_run(runs) if options.run in (None, "newest") else Path(options.run).expanduser()
        agents = run_status(run)
        found |= {"run": str(run), "agents": [asdict(agent) for agent in agents]}
        print(f"run {run}\n{run_table(agents, time.time())}")
    if not found:
        raise EdgeError(f"{symphony_folder()}: neither a device nor a run is here; see --device and --run")
    if options.json:
        write_json(Path(options.json).expanduser(), found)
    return 0


def network_folder(named: str | None) -> Path:
    """The folder of a network, or the usual one."""
    return Path(named).expanduser().resolve() if named else symphony_folder() / "network"


def add_commands(command: Add) -> None:
    """Declare them."""
    sub = command("up", up)
    sub.add_argument("--superlink", metavar="HOST:PORT", required=True, help="the network to join")
    sub.add_argument("--number", metavar="N", type=int, required=True, help="this agent's number: 0, 1, ...")
    sub.add_argument(
        "--root-certificates", metavar="FILE", help="the network's ca.pem (default: the system's)"
    )
    sub.add_argument("--insecure", action="store_true", help="no TLS and no authentication; for trials only")
    sub.add_argument("--device", metavar="DIR", help="the device's folder (default: ~/.symphony-fl/device)")
    sub.add_argument("--memory", metavar="GB", type=float, default=1.0, help="free memory it must have")
    sub.add_argument("--disk", metavar="GB", type=float, default=1.0, help="free disk it must have")
    sub.add_argument(
        "--accelerator", metavar="NAME", default="none", help="that it must have: cuda, cuda:1, mps"
    )
    sub.add_argument(
        "--longest",
        metavar="S",
        type=float,
        default=7200.0,
        help="an agent busy longer than that is restarted",
    )
    sub.add_argument("--threads", metavar="N", type=int, default=1, help="of torch (default: 1)")
    sub.add_argument(
        "--direct",
        metavar="IP:PORT",
        default="",
        help="UDP, where neighbours reach this agent (exchange.transport=iroh; default: any port of all interfaces)",
    )
    sub.add_argument(
        "--announce",
        metavar="IP:PORT",
        default="",
        help="where they do from outside, if a router forwards a port",
    )
    sub.add_argument(
        "--model",
        metavar="NAME",
        action="append",
        default=[],
        help="a model.name that runs may ask this device to load, beside tiny and smollm2; repeatable",
    )
    sub.add_argument(
        "--source",
        metavar="ENTRY",
        action="append",
        default=[],
        help="an entry of tasks.sources that runs may ask it to read, word for word; repeatable",
    )
    sub = command("status", status)
    sub.add_argument("--device", metavar="DIR", help="only of the device in this folder")
    sub.add_argument("--run", metavar="DIR", help="only of the run in this folder, or newest")
    sub.add_argument("--json", metavar="FILE", help="write it as JSON, too")
    sub = command("network", network)
    sub.add_argument("folder", metavar="DIR", nargs="?", help="its folder (default: ~/.symphony-fl/network)")
    sub.add_argument("--host", default="127.0.0.1", help="to listen on; 0.0.0.0 for all (default: loopback)")
    sub.add_argument("--port", type=int, default=DEFAULT_PORT)
    sub.add_argument(
        "--name", action="append", default=[], help="host name or address devices use; repeatable"
    )
    sub.add_argument("--certificate", metavar="FILE", help="server certificate (default: one is made)")
    sub.add_argument("--key", metavar="FILE", help="its private key")
    sub.add_argument("--authority", metavar="FILE", help="certificate of the authority that signed it")


def _say(line: str) -> None:
    print(f"symphony: {line}", flush=True)
