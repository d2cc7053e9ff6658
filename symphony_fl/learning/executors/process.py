"""Starting and ending the processes in which untrusted code runs: shared by python.py and sql_process.py."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

START_SECONDS = 30.0  # of the interpreter, on a busy machine
_ROOT = Path(__file__).resolve().parents[3]


class SandboxError(RuntimeError):
    """The confined process could not be set up on this machine; no untrusted code was run."""


def start(main: str, hash_seed: int = 0) -> subprocess.Popen[bytes]:
    """Start a fresh interpreter that runs ``main``, a line of Python, and sees our packages but no site-packages.

    It leads a process group of its own, so that ``end`` reaches whatever it may have started.
    """
    # -P -s -S and an environment of one variable are what -I is, which would ignore that variable
    return subprocess.Popen(
        [sys.executable, "-P", "-s", "-S", "-c", f"import sys; sys.path.insert(0, sys.argv[1]); {main}", str(_ROOT)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        cwd="/", env={"PYTHONHASHSEED": str(hash_seed)}, start_new_session=True,
    )  # fmt: skip


def end(process: subprocess.Popen[bytes]) -> None:
    """Kill the process and everything of its group, and collect it. Its own code is kept if it has ended by itself."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass  # it is gone, and its group with it
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()


def read_layers(hello: bytes) -> tuple[str, ...]:
    """The layers of python_sandbox.py that hold, from a worker's first message.

    Raises
    ------
    SandboxError
        The worker is not confined.
    """
    try:
        message = json.loads(hello)
    except ValueError:
        raise SandboxError("the confined process ended before it was ready") from None
    if "layers" not in message:
        raise SandboxError(f"the process cannot be confined here: {message.get('broken')}")
    return tuple(message["layers"])
