"""A real `symphony run` or `flwr run` under observation: its processes, their listening sockets and command lines."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil

WAIT_SECONDS = 400.0  # on a busy machine; the run is up in 40 s on a quiet one


class Tree:
    """A process and all its descendants that were seen, those included that have left the tree since."""

    def __init__(self, root: int) -> None:
        self._known = {root: psutil.Process(root)}
        self.commands: set[str] = set()

    def look(self) -> list[psutil.Process]:
        """Those that live, with what is new in their command lines remembered."""
        for process in list(self._known.values()):
            try:
                for child in process.children(recursive=True):
                    self._known.setdefault(child.pid, child)
            except psutil.NoSuchProcess:
                continue
        living = [process for process in self._known.values() if process.is_running()]
        for process in living:
            try:
                self.commands.add("\0".join(process.cmdline()))
            except (psutil.NoSuchProcess, psutil.ZombieProcess):
                continue
        return living

    def listening(self) -> set[tuple[str, str, int]]:
        """(program, address, port) of all sockets that take connections now."""
        found = set()
        for process in self.look():
            try:
                name = process.name()
                sockets = process.net_connections(kind="inet")
            except (psutil.NoSuchProcess, psutil.ZombieProcess):
                continue
            found |= {
                (name, item.laddr.ip.removeprefix("::ffff:"), item.laddr.port)
                for item in sockets
                if item.status == psutil.CONN_LISTEN
            }
        return found

    def named(self, name: str) -> psutil.Process:
        """The one process of a name."""
        (found,) = [process for process in self.look() if _name(process) == name]
        return found


def await_it(tree: Tree, there: Callable[[], bool], process: subprocess.Popen[bytes], output: Path) -> None:
    """Look at the tree several times a second until something is there; fails with what the command said."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not there():
        tree.look()
        assert process.poll() is None and time.monotonic() < deadline, output.read_text()[-3000:]
        time.sleep(0.1)


def _name(process: psutil.Process) -> str:
    try:
        return str(process.name())
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return ""
