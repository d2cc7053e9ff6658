"""Where files lie on a machine: runs and tracking under one visible folder, models in the user's cache.

Only their owner may read runs: they hold adapters, answers and rewards, and the tracking store may hold anything a user
logs. Models in the cache are public, and stay so.
"""

from __future__ import annotations

import errno
import json
import os
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout


class FolderError(RuntimeError):
    """A folder that others may enter and that is not ours to close; the message says what to do."""


def keep_private() -> None:
    """Called where a program begins: what it and its children make from now on is for our user alone."""
    os.umask(0o077)


def private_opener(path: str, flags: int) -> int:
    """For `open(..., opener=private_opener)`: a file that is made has mode 0600, whatever the umask."""
    return os.open(path, flags, 0o600)


def closed_folder(path: Path) -> Path:
    """A folder that only its owner may enter: made so, or narrowed if an earlier version left it open.

    Raises
    ------
    FolderError
        It is open, and another user's.
    """
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    facts = path.stat()
    mode = stat.S_IMODE(facts.st_mode)
    if os.name == "posix" and mode & 0o077:
        if facts.st_uid != os.getuid():
            raise FolderError(
                f"{path}: belongs to user {facts.st_uid} and others may enter it (mode {mode:04o}); "
                "name a folder of your own (SYMPHONY_HOME, --run-dir), or chown it to yourself"
            )
        path.chmod(0o700)
    return path


def closed_run_folder(path: Path) -> Path:
    """The folder of a run, closed as `closed_folder` does it, and the Symphony folder if it lies there.

    A folder that holds other things already is left as open as it was: what we put there is private by itself.
    """
    home = symphony_folder()
    if path.is_relative_to(home):
        closed_folder(home)
    if not path.exists() or (path / "recipe.json").exists() or not any(path.iterdir()):
        closed_folder(path)
    return path


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
    file = closed_folder(symphony_folder()) / "mlflow.db"
    if file.exists() and stat.S_IMODE(file.stat().st_mode) & 0o077:
        file.chmod(0o600)
    return f"sqlite:///{file}"


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


def write_atomically(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Either the old file or the new one is there at every instant, and the new one survives a power cut.

    Callers hold a lock on the folder: what an earlier call left behind is overwritten.
    """
    write_all_atomically([path], data, mode)


def write_all_atomically(paths: Sequence[Path], data: bytes, mode: int = 0o600) -> None:
    """Write the same bytes under several names of one folder. At every instant each is the old file or the new one.
    They change in this order, and once this returns all survive a power cut."""
    for path in paths:
        aside = _aside(path)
        aside.unlink(missing_ok=True)  # its mode would stay as it was
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    for path in paths:
        os.replace(_aside(path), path)
    folder = os.open(paths[0].parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _aside(path: Path) -> Path:
    return path.with_name(f".{path.name}.new")


def secret_file(path: Path, fresh: bytes | None, refusal: Callable[[str], Exception]) -> bytes:
    """The content of a file that only its owner may read; if it is missing, `fresh` is written with mode 0600.

    `refusal`, with a message that says what to do, is raised if the file is another user's, readable by others, no
    regular file, a dangling link, or missing while `fresh` is None.
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
    """Open without blocking: opening a pipe would otherwise wait for a writer."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def write_json(path: Path, value: Any) -> Path:
    """JSON that is there as a whole or not at all: neither a kill while writing nor a power cut after it costs it."""
    write_atomically(path, json.dumps(value, indent=2).encode())
    return path
