"""Flower's executor of ServerApps, which keeps their tokens out of the process list.

    python -m strategies.superlink.executor ...    the options of `flower-superexec`

The token is passed in a file in Flower's own, private folder, and the file is gone once the ServerApp has ended. Flower
itself starts `flwr-serverapp --token TOKEN`, and every user of the machine can read a command line. With the token of a
running task, a process can take its messages and send others to its nodes.

Tasks of another kind (agents, connectors, models) are not started. A connection that merely broke off is tried again
(`clients/flower_patches/tls_retry.py`).
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from clients.flower_patches.internals import UnknownFlower, check_shapes
from clients.flower_patches.tls_retry import run_patiently

STARTED = ("flwr-serverapp", "flwr-simulation")  # programs, which are also Flower's names of kinds of tasks


class Starter:
    """Starts a process per task.

    Parameters
    ----------
    folder : private, for files that hold tokens
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for left in folder.iterdir():  # of an executor that was killed
            left.unlink()
        self._running: list[tuple[subprocess.Popen[bytes], Path]] = []

    def start(self, spec: Any) -> bool:
        """The process of Flower's specification of a task; False if tasks of its kind are not started."""
        self.clean()
        program = str(spec.task_type)
        if program not in STARTED:
            return False
        descriptor, name = tempfile.mkstemp(dir=self.folder)
        with os.fdopen(descriptor, "w") as file:
            file.write(spec.token)
        command = [program, "--runtime-api-address", spec.runtime_api_address, "--token-file", name]
        if spec.insecure:
            command.append("--insecure")
        elif spec.root_certificates_path is not None:
            command += ["--root-certificates", spec.root_certificates_path]
        if spec.parent_pid is not None:
            command += ["--parent-pid", str(spec.parent_pid)]
        output = subprocess.DEVNULL if spec.suppress_output else None
        self._running.append((subprocess.Popen(command, stdout=output, stderr=output), Path(name)))
        return True

    def clean(self) -> None:
        """Remove the files of processes that have ended."""
        for process, path in list(self._running):
            if process.poll() is not None:
                with suppress(FileNotFoundError):
                    path.unlink()
                self._running.remove((process, path))


def install(folder: Path) -> None:
    """Have Flower's executor start processes by a `Starter`. Raises UnknownFlower if that is not
    as expected."""
    check_shapes("executor")
    from flwr.supercore.superexec.executor import ExecutionSpec, LaunchResult, SubprocessExecutor

    starter = Starter(folder)

    def launch(self: SubprocessExecutor, spec: ExecutionSpec) -> LaunchResult:
        if starter.start(spec):
            return LaunchResult.accepted()
        return LaunchResult.failed(f"tasks of kind {spec.task_type} are not started on this network")

    def reconcile(self: SubprocessExecutor) -> None:
        starter.clean()

    SubprocessExecutor.launch = launch  # type: ignore[method-assign]
    SubprocessExecutor.reconcile = reconcile  # type: ignore[method-assign]


def main() -> int:
    """Entry point."""
    try:
        install(Path(os.environ["FLWR_HOME"]) / "tasks")
    except UnknownFlower as error:
        print(f"Error: {error}", file=sys.stderr)
        return 3
    sys.argv[0] = "flower-superexec"
    run_patiently("flower-superexec")
    return 0


if __name__ == "__main__":
    sys.exit(main())
