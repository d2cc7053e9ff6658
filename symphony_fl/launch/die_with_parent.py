"""A child program dies with its parent process, even when the parent is killed by SIGKILL. On Linux only."""

from __future__ import annotations

import ctypes
import signal
import sys
from collections.abc import Callable
from functools import partial

PR_SET_PDEATHSIG = 1


def die_with_parent(sign: signal.Signals) -> Callable[[], None] | None:
    """For `subprocess.Popen(preexec_fn=...)`: the kernel sends the program this signal when we die. None elsewhere."""
    return partial(_ask_kernel, sign) if sys.platform == "linux" else None


def _ask_kernel(sign: signal.Signals) -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, sign)
