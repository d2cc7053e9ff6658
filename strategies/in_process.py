"""A run without Flower's processes: the same strategies and agents, on a grid in memory and a pool of workers.

    python -m strategies.in_process FOLDER

FOLDER holds the recipe, as `symphony run --in-process` puts it there; the run can be gone on with in either way. What
people watch goes to standard output, among the log.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

from symphony_fl.launch.watchdog import LAUNCHER, die_with_launcher

CLOSE_SECONDS = 5.0


class Template:
    """The process that workers are forked from, started at once and anew if it dies."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._start()

    def hire(self) -> PoolWorker:
        """A fresh worker. It answers as soon as the template has loaded what workers share."""
        ours, theirs = socket.socketpair()
        with self._lock, theirs:
            if self._process.poll() is not None:
                self._start()
            with suppress(BrokenPipeError):  # it has died just now, and the worker is gone as well
                socket.send_fds(self._socket, [b"w"], [theirs.fileno()])
        return PoolWorker(ours)

    def close(self) -> None:
        """It ends when all workers have, whose sockets are closed; one that is still busy is not waited for."""
        with self._lock, self._socket:
            self._socket.close()
            try:
                self._process.wait(CLOSE_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def _start(self) -> None:
        self._socket, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "clients.worker_pool",
                    str(theirs.fileno()),
                    str(self._folder),
                ],
                pass_fds=[theirs.fileno()],
                env=os.environ | {LAUNCHER: str(os.getpid())},
            )


class PoolWorker:
    """A worker process, at the other end of a socket."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def ask(self, node: int, kind: str, content: bytes) -> tuple[bool, bytes]:
        from symphony_fl.edge.frames import OK, receive_frame, send_frame

        send_frame(self._connection, f"{node}/{kind}", content)
        word, body = receive_frame(self._connection)
        return word == OK, body

    def close(self) -> None:
        self._connection.close()


def main() -> None:
    """Entry point."""
    folder = Path(sys.argv[1]).resolve()
    die_with_launcher()
    template = Template(folder)  # loads its libraries while we load ours
    try:
        _run(folder, template)
    finally:
        template.close()


def _run(folder: Path, template: Template) -> None:
    import symphony_fl.reports.plots  # noqa: F401  at the end of the run it would be waited for; now workers load for longer
    from strategies.grids.in_memory import InMemoryGrid
    from strategies.server_app import Run, claimed, one_node_each, run_rounds
    from symphony_fl.build.checks import check_recipe
    from symphony_fl.config.recipe import load_recipe
    from symphony_fl.launch.runtime import IN_PROCESS, cores

    recipe = check_recipe(load_recipe(str(folder / "recipe.json")))
    run = Run(recipe, folder.name, folder, IN_PROCESS)
    nodes = -(-recipe.agents // recipe.agents_per_node)
    grid = InMemoryGrid(nodes, recipe.limits.at_once or cores(), template.hire)
    with claimed(run):
        run_rounds(one_node_each(grid, recipe), run)
    grid.close()


if __name__ == "__main__":
    main()
