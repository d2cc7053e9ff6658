"""The file that is an agent's identity: its private key, and the changes of keys that led to it.

    key = Ed25519 private key (32 raw bytes) | rotations (196 bytes each, `exchange/rotation.py`)

One file, so that one rename changes the key and says so. Nobody but its owner may read it.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from symphony_fl.exchange.identity import (
    KEY_BYTES,
    did_from_public_key,
    generate_private_key,
    public_key_of,
)
from symphony_fl.exchange.rotation import MAX_ROTATIONS, ROTATION_BYTES, read_rotations, seal_rotation
from symphony_fl.folders import secret_file, write_atomically

KEY_FILE = "key"


class KeyFileError(RuntimeError):
    """A key that must not be used; the message names the file, what is wrong and what to do."""


@dataclass(frozen=True)
class KeyFile:
    """What a key file holds. rotations: statements, oldest first."""

    private_key: bytes
    rotations: bytes

    @property
    def did(self) -> str:
        return did_from_public_key(public_key_of(self.private_key))


def open_key_file(path: Path) -> KeyFile:
    """The identity kept at `path`, made at the first call.

    Raises:
        KeyFileError: the file is another user's, others may read it or change its folder, or it does not hold a key
            and whole rotations.
    """
    _check_folder(path.parent)
    data = secret_file(path, generate_private_key(), _open_to_others)
    private_key, rotations = data[:KEY_BYTES], data[KEY_BYTES:]
    if len(private_key) != KEY_BYTES or len(rotations) % ROTATION_BYTES:
        raise KeyFileError(
            f"{path}: {len(data)} bytes, must be a key of {KEY_BYTES} and rotations of {ROTATION_BYTES} each"
        )
    return KeyFile(private_key, rotations)


def rotate_key(path: Path) -> KeyFile:
    """Replace the key by a fresh one which the old one signs over to. The caller holds the home's lock.

    Raises:
        KeyFileError: as above, or this identity has changed its key too often for others to follow.
    """
    old = open_key_file(path)
    made = read_rotations(old.rotations)
    if len(made) == MAX_ROTATIONS:
        raise KeyFileError(f"{path}: {MAX_ROTATIONS} rotations, at most {MAX_ROTATIONS}: take a new identity")
    fresh = generate_private_key()
    counter = made[-1].counter + 1 if made else 1
    statement = seal_rotation(old.private_key, fresh, counter)
    write_atomically(path, fresh + old.rotations + statement, mode=0o600)
    return open_key_file(path)


def _open_to_others(why: str) -> KeyFileError:
    return KeyFileError(f"{why} (of an identity: symphony key --rotate)")


def _check_folder(folder: Path) -> None:
    mode = stat.S_IMODE(folder.stat().st_mode)
    if os.name == "posix" and mode & 0o022:
        raise KeyFileError(f"{folder}: mode {mode:04o}, others may replace the key in it: chmod go-w it")
