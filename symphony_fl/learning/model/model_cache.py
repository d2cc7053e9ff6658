"""Folders of models this project builds itself: made once, whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import platformdirs
from filelock import FileLock


def models_folder() -> Path:
    """Where built models are cached: $SYMPHONY_CACHE/models, else the user's cache folder."""
    root = os.environ.get("SYMPHONY_CACHE") or platformdirs.user_cache_dir("symphony-fl")
    return Path(root).expanduser() / "models"


def build_once(cache: Path, name: str, build: Callable[[Path], None]) -> Path:
    """The folder ``cache/name``; when it is not there, what ``build(folder)`` writes becomes it in one rename.

    Two processes that need it at once build it once: the second waits on a lock. A build that is killed leaves
    nothing under the final name, and its remains are removed by the next one.
    """
    final = cache / name
    if final.is_dir():
        return final
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(cache / f"{name}.lock"):
        if final.is_dir():
            return final
        prefix = f".{name}-building-"
        for remains in cache.glob(f"{prefix}*"):  # nobody else builds: we hold the lock
            shutil.rmtree(remains)
        aside = Path(tempfile.mkdtemp(prefix=prefix, dir=cache))
        try:
            build(aside)
            aside.chmod(0o755)  # mkdtemp's folders are their maker's alone
            for path in (*sorted(aside.rglob("*")), aside):
                _sync(path)
            aside.rename(final)
            _sync(cache)
        finally:
            shutil.rmtree(aside, ignore_errors=True)  # gone under that name when all went well
    return final


def _sync(path: Path) -> None:
    """What lies under ``path`` reaches the disk; for a folder, its list of names."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
