"""The end of a command and of everything it started."""

from __future__ import annotations

import os
import signal
import subprocess

import psutil


def kill_all(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL to all of them, as when a machine loses power."""
    family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    for member in family:
        try:
            os.kill(member.pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    process.wait()
    psutil.wait_procs(family, timeout=30)
