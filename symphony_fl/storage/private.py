"""Folders and files that only their owner may read: keys and sockets lie there."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from symphony_fl.storage.folders import secret_file


class EdgeError(RuntimeError):
    """A device or network that cannot be started as it is; the message says what to change."""


def private_folder(path: Path) -> Path:
    """The folder, made with mode 0700 if it is not there.

    Raises
    ------
    EdgeError
        It is another user's, or others may enter it.
    """
    path = path.expanduser().resolve()
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    facts = path.stat()
    mode = stat.S_IMODE(facts.st_mode)
    if facts.st_uid != os.getuid():
        raise EdgeError(f"{path}: belongs to user {facts.st_uid}, must be ours (user {os.getuid()})")
    if mode & 0o077:
        raise EdgeError(f"{path}: mode {mode:04o} lets others in; chmod 700 {path}")
    return path


def private_file(path: Path, fresh: bytes | None) -> bytes:
    """A secret file's content; where there is none, `fresh` is put there with mode 0600.

    Raises
    ------
    EdgeError
        It is another user's, others may read it, or it is missing and there is nothing to put there.
    """
    return secret_file(path, fresh, EdgeError)
