"""What Ray must be before Flower starts it for a simulation.

Flower's `flwr-simulation` loads the ClientApp, then starts Ray in the same thread of the same process. Ray by default
listens on all interfaces and runs any code a connection sends, without a password. That includes plain `flwr run .`,
where none of our programs starts the processes. So the ClientApp calls `secure_ray` at its import:

- every connection must present a token, fresh for each run, which stands in the environment of this process and its
  children only;
- the ports are on loopback: Ray listens there when told that this is not a machine for clusters;
- sockets and logs lie in a private folder, and no cluster named by the environment or in /tmp is joined;
- the dashboard and the autoscaler's monitor, of no use here, are not started.

A busy machine needs more than the 30 s that Ray gives its raylet to start, so it has more. The file touches Ray's
insides; `tests/security/` says whether they still are what it takes them for.
"""

from __future__ import annotations

import atexit
import os
import secrets
import shutil
import stat
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

START_SECONDS = 180.0  # for the raylet to come up
LONGEST_FOLDER = 35  # characters; Ray appends 68, and a Unix socket's name ends at 103 on macOS, 107 on Linux
CURE = "use `symphony run`, or stop the local SuperLink and start it from a shell with `export RAY_AUTH_MODE=token`"


class UnsecuredRay(ImportError):
    """Ray would run code for strangers; the message says what to do. Flower ends the run before Ray is started."""


def secure_ray() -> None:
    """Called once, in `flwr-simulation`, before Ray is started.

    Raises
    ------
    UnsecuredRay
        Ray would not ask for the token, or would join a cluster that is not ours.
    """
    if os.environ.get("RAY_ADDRESS"):
        raise UnsecuredRay(
            f"RAY_ADDRESS = {os.environ['RAY_ADDRESS']!r}: must not be set, a simulation starts a Ray of its own; "
            "unset it and restart the local SuperLink"
        )
    os.umask(0o077)
    os.environ.pop("RAY_AUTH_TOKEN_PATH", None)
    os.environ |= {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_TMPDIR": str(_private_folder()),
        "RAY_raylet_start_wait_time_s": f"{START_SECONDS:.0f}",
        "RAY_worker_register_timeout_seconds": f"{START_SECONDS:.0f}",
    }
    from ray._private import ray_constants, services  # it reads the environment when it is loaded
    from ray._private.authentication.authentication_utils import is_token_auth_enabled
    from ray._private.node import Node

    if ray_constants.ENABLE_RAY_CLUSTER or not is_token_auth_enabled():
        raise UnsecuredRay(f"Ray was loaded before our ClientApp, and would run code for strangers: {CURE}")
    Node.start_monitor = _nothing
    Node.start_api_server = _nothing
    services.get_node = partial(_await_node, services.get_node)


def _nothing(node: Any, **options: Any) -> None:
    """In place of the start of a program that a simulation does not need."""


def _await_node(get_node: Any, gcs_address: str, node_id: str) -> Any:
    """What Ray knows of a node, which may still be starting."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            return get_node(gcs_address, node_id)
        except RuntimeError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def _private_folder() -> Path:
    """For Ray's sockets and logs: the one named by RAY_TMPDIR if only we may enter it, else a fresh one, removed at
    the end. Ray opens what it makes there to everyone."""
    named = os.environ.get("RAY_TMPDIR")
    if named and _is_private(Path(named)):
        return Path(named)
    short = len(tempfile.gettempdir()) + len("/ray-01234567") <= LONGEST_FOLDER
    fresh = tempfile.mkdtemp(prefix="ray-", dir=None if short else "/tmp")
    atexit.register(shutil.rmtree, fresh, ignore_errors=True)
    return Path(fresh)


def _is_private(folder: Path) -> bool:
    if not folder.is_dir() or len(str(folder)) > LONGEST_FOLDER:
        return False
    facts = folder.stat()
    return facts.st_uid == os.getuid() and not stat.S_IMODE(facts.st_mode) & 0o077
