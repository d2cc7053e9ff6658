"""A private SuperLink for simulations on this machine, which serves no other program.

`flwr run` would otherwise start, or find, a lasting local SuperLink whose environment and working folder were
frozen when some earlier run started it, perhaps from another checkout. A private one has our environment, our
port and our working folder, and is gone when we are. Flower is used as a program here, never imported.

The SuperLink (`strategies/superlink/guard.py`) takes commands only with a credential, and gives tasks only to the
executor (`strategies/superlink/executor.py`), which has another one. Its port is on loopback, which every user of the
machine can reach, and starting a run there means running code. Both credentials are new each time and lie in a folder
that only this user may enter.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from symphony_fl.launch.credential import credentials, hand_to_flower
from symphony_fl.launch.die_with_parent import die_with_parent
from symphony_fl.launch.watchdog import LAUNCHER
from symphony_fl.storage.private import private_file

APP_FOLDER = Path(__file__).resolve().parents[2]
STARTUP_SECONDS = 60.0
STOP_SECONDS = 10.0
CONNECTION = "private"  # its name in Flower's configuration
# Our modules are loaded from here before the working folder becomes that of the simulations, whose apps may import
# from there: it may be another checkout's.
EXECUTOR = "import os, sys; from strategies.superlink.executor import main; os.chdir(sys.argv.pop(1)); sys.exit(main())"


class LaunchError(RuntimeError):
    """Flower could not be started, or a run did not end well; the message says where the log is."""


@dataclass(frozen=True)
class SuperLink:
    """A running SuperLink: the environment `flwr` finds it by, and its name in Flower's configuration if it is one
    that devices have joined; None for a private one, which simulates its agents."""

    environment: dict[str, str]
    connection: str | None = None


@contextmanager
def private_superlink(folder: Path = APP_FOLDER) -> Iterator[SuperLink]:
    """A SuperLink in simulation mode on a free loopback port, stopped at the end, and killed if we are killed.

    `folder` is the working folder of simulations, from which simulated apps may import.
    """
    with (
        tempfile.TemporaryDirectory(prefix="symphony-flwr-", ignore_cleanup_errors=True) as name,
        ExitStack() as stack,
    ):
        home, address = Path(name), f"127.0.0.1:{_free_port()}"
        credential, _ = credentials(home)
        private_file(home / "secret", secrets.token_bytes(32))
        hand_to_flower(credential, home, address)
        _configure(home, address)
        environment = _environment(home)
        shared = ["--insecure", "--superexec-auth-secret-file", str(home / "secret")]
        superlink = [sys.executable, "-m", "strategies.superlink.guard", "--operator", str(credential), "--"]
        superlink += [*shared, "--simulation", "--isolation", "process"]
        superlink += ["--host", "127.0.0.1", "--port", address.rpartition(":")[2]]
        executor = [sys.executable, "-c", EXECUTOR, str(folder)]
        executor += [*shared, "--runtime-api-address", address]
        running = {}
        for program, command in {"superlink": superlink, "executor": executor}.items():
            running[home / f"{program}.log"] = _start(command, environment, home / f"{program}.log")
            stack.callback(stop, running[home / f"{program}.log"])  # the executor, started last, first
        _wait_until_healthy(running, address)
        yield SuperLink(environment)


def _configure(home: Path, address: str) -> None:
    """By its address, `flwr` takes this SuperLink or none; were it away, `:local:` would start one without credentials.

    TOML's basic strings are JSON's.
    """
    (home / "config.toml").write_text(
        f"[superlink]\ndefault = {json.dumps(CONNECTION)}\n\n[superlink.{CONNECTION}]\n"
        f"address = {json.dumps(address)}\ninsecure = true\n"
    )


def _environment(home: Path) -> dict[str, str]:
    programs = str(Path(sys.executable).parent)  # flwr looks its own programs up on PATH
    # A run of ours is on a Ray of its own, whatever cluster the user works with otherwise.
    inherited = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    return {
        **inherited,
        "PATH": programs + os.pathsep + os.environ.get("PATH", ""),
        "FLWR_HOME": str(home),
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_TELEMETRY_ENABLED": "0",
        "RAY_DEDUP_LOGS": "0",
        "RAY_TMPDIR": str(
            home
        ),  # what else protects Ray is set where it is started: clients/flower_patches/ray_security.py
        # One thread per agent: two under contention were several times slower than one.
        "OMP_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONUNBUFFERED": "1",
        LAUNCHER: str(os.getpid()),
    }


def _start(command: list[str], environment: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as output:
        return subprocess.Popen(
            command,
            env=environment,
            cwd=APP_FOLDER,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=die_with_parent(signal.SIGKILL),
        )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_healthy(running: dict[Path, subprocess.Popen[bytes]], address: str) -> None:
    deadline = time.monotonic() + STARTUP_SECONDS
    while time.monotonic() < deadline:
        for log, process in running.items():
            if process.poll() is not None:
                text = log.read_text(errors="replace").strip().splitlines()
                raise LaunchError(
                    f"Flower's {log.stem} stopped with status {process.returncode}: {' '.join(text[-3:])}"
                )
        try:
            with urllib.request.urlopen(f"http://{address}/health", timeout=1):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise LaunchError(f"Flower's SuperLink did not answer within {STARTUP_SECONDS:g} s")


def stop(process: subprocess.Popen[Any]) -> None:
    """Ask, then insist; the whole process group, so that no simulation goes on without us."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, sign)
        except ProcessLookupError:
            break
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            continue
    process.wait()
