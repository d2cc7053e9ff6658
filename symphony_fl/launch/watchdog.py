"""The tie between the command that launched a run and the run's ServerApp: the latter does not outlive the former."""

from __future__ import annotations

import os
import threading
import time

LAUNCHER = "SYMPHONY_LAUNCHER"  # environment variable: our process id, for the ServerApp


def die_with_launcher() -> None:
    """Called by the ServerApp: end this process soon after the launcher that started it is gone.

    The SuperLink dies with the launcher, but a simulation it started would go on, unseen, in the same homes.
    Does nothing under plain `flwr run`, which leaves its runs to the SuperLink.
    """
    launcher = os.environ.get(LAUNCHER)
    if launcher is None:
        return

    def watch() -> None:
        while _alive(int(launcher)):
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, name="launcher-watch", daemon=True).start()


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
