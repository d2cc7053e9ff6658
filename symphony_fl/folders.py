"""Where things lie on a machine: runs and tracking under one visible folder, models in the user's cache."""

from __future__ import annotations

import errno
import json
import os
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout


def symphony_folder() -> Path:
    """Runs and the default MLflow store: $SYMPHONY_HOME, else ~/.symphony-fl."""
    return Path(os.environ.get("SYMPHONY_HOME") or Path.home() / ".symphony-fl").expanduser().resolve()


def run_folder(run_dir: str, run_id: int) -> Path:
    """The folder of one run: the one the user named, else one per Flower run id."""
    if run_dir:
        return Path(run_dir).expanduser().resolve()
    return symphony_folder() / "runs" / f"flwr-{run_id}"


def home_folder(run: Path, agent: int) -> Path:
    """An agent's home in a simulated run."""
    return run / "agents" / f"{agent:04d}"


def default_tracking_uri() -> str:
    """MLflow's SQLite store, shared by all runs under one Symphony folder."""
    folder = symphony_folder()
    folder.mkdir(parents=True, exist_ok=True)
    return f"sqlite:///{folder / 'mlflow.db'}"


def safe_name(text: str) -> str:
    """`text` as part of a file name."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-.") or "run"


@contextmanager
def locked(path: Path, timeout: float, refusal: Exception) -> Iterator[None]:
    """Hold the lock file `path` against other processes; `refusal` is raised if it is not free in `timeout` seconds."""
    lock = FileLock(path)
    try:
        lock.acquire(timeout=timeout)
    except Timeout:
        raise refusal from None
    try:
        yield
    finally:
        lock.release()


def write_atomically(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Either the old file or the new one is there at every instant, and the new one survives a power cut.

    Callers hold a lock on the folder: what an earlier call left behind is overwritten.
    """
    aside = path.with_name(f".{path.name}.new")
    aside.unlink(missing_ok=True)  # its mode would stay as it was
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(aside, path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def secret_file(path: Path, fresh: bytes | None, refusal: Callable[[str], Exception]) -> bytes:
    """What a file holds that nobody but us may read; where there is none, `fresh` is put there with mode 0600.

    `refusal`, of a message that says what to do, is raised if it is another user's, others may read it, it is no file,
    a link that leads nowhere, or missing and there is nothing to put there.
    """
    if not os.path.lexists(path):
        if fresh is None:
            raise refusal(f"{path}: missing")
        write_atomically(path, fresh, mode=0o600)
    try:
        with open(
            path, "rb", opener=_at_once
        ) as file:  # what is checked is what is read, whatever becomes of the name
            facts = os.fstat(file.fileno())
            mode = stat.S_IMODE(facts.st_mode)
            if not stat.S_ISREG(facts.st_mode):
                raise refusal(f"{path}: is no file")
            if os.name == "posix" and facts.st_uid != os.getuid():
                raise refusal(f"{path}: belongs to user {facts.st_uid}, must be ours (user {os.getuid()})")
            if os.name == "posix" and mode & 0o077:
                raise refusal(
                    f"{path}: mode {mode:04o}, others may use this secret: chmod 600 it, and change it if they could "
                    "have done so"
                )
            return file.read()
    except OSError as error:
        raise refusal(f"{path}: cannot be read ({error.strerror})") from None


def read_file(path: Path) -> bytes:
    """What a file holds. Raises OSError, also for what is no file: a pipe would be waited for."""
    with open(path, "rb", opener=_at_once) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "is no file", str(path))
        return file.read()


def _at_once(path: str, flags: int) -> int:
    """Opening a pipe would wait for somebody to write into it."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def write_json(path: Path, value: Any) -> Path:
    """JSON that is there as a whole or not at all: neither a kill while writing nor a power cut after it costs it."""
    write_atomically(path, json.dumps(value, indent=2).encode())
    return path
