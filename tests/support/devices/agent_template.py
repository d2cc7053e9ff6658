"""Agent processes that are forked from one which has loaded torch and the model: each costs what it does, not 5 s more.

    python agent_template.py SOCKET

What runs in a fork is `main` of `clients/service/agent_process.py` with the given arguments and environment.
`test_agent_process.py` starts agents as a device does, by `python -m`.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import signal
import socket
import subprocess
import sys
import traceback
from contextlib import suppress
from functools import cache
from pathlib import Path
from types import FrameType

import psutil


class Forked:
    """A process that is not our child, to be used as `subprocess.Popen` is."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)

    def poll(self) -> int | None:
        """None while it runs. How it ended is known to nobody."""
        return None if self._process.is_running() else 1

    def kill(self) -> None:
        if self._process.is_running():
            self._process.kill()

    def send_signal(self, sig: int) -> None:
        self._process.send_signal(sig)

    def wait(self, timeout: float | None = None) -> int | None:
        self._process.wait(timeout)
        return self.poll()


def fork_agent(arguments: list[str], log: Path) -> Forked:
    """An agent process with this process's environment as it is now; what it says goes to `log`."""
    template = _template()
    order = {"arguments": arguments, "environment": dict(os.environ), "log": str(log)}
    template.sendall(json.dumps(order).encode() + b"\n")
    return Forked(int(template.recv(32)))


@cache
def _template() -> socket.socket:
    """The one of this process, which ends with it."""
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(
            [sys.executable, __file__, str(theirs.fileno())], pass_fds=[theirs.fileno()], env=_surroundings()
        )
    atexit.register(process.wait)
    atexit.register(ours.close)  # the last one registered goes first
    return ours


def _surroundings() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": os.pathsep.join([os.getcwd(), os.environ.get("PYTHONPATH", "")])}


def main() -> None:
    """Fork an agent for every line, until the other end is closed."""
    from clients.service import agent_process
    from symphony_fl.learning.model.base_model import load_base

    load_base("tiny")
    gc.freeze()
    signal.signal(signal.SIGCHLD, _reap)
    connection = socket.socket(fileno=int(sys.argv[1]))
    for line in connection.makefile():
        order = json.loads(line)
        pid = os.fork()
        if pid:
            connection.sendall(str(pid).encode())
            continue
        status = 1
        try:
            connection.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os.environ.clear()
            os.environ.update(order["environment"])
            log = os.open(order["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            os.dup2(log, 1)
            os.dup2(log, 2)
            sys.argv = ["agent_process", *order["arguments"]]
            agent_process.main()
            status = 0
        except BaseException:  # a fork must end here, and say why
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)


def _reap(number: int, frame: FrameType | None) -> None:
    """Forks that have ended leave nothing behind but the processor time they took, which is counted as ours."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


if __name__ == "__main__":
    main()
