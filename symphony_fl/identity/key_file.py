r"""The file that is an agent's identity: its private key, and the key rotations that led to it.

    key = "SFLKEY1\\n" | Ed25519 private key (32 raw bytes) | rotations (196 bytes each, `identity/rotation.py`)
        | SHA-256 of all before (32)

It is one file, so that one rename changes the key and records the rotation. Only its owner may read it. A key of 32 raw
bytes that is put into a new home is adopted, and gets its checksum then.

    identity.json = {"did": whose folder this is, "pins": whether a peers.json lies here}

This record lies beside the key file, so that a lost or replaced key or pins file is noticed: a missing file must not
turn an agent into another one or drop its owner's demands. `symphony key HOME --accept` confirms an intended change.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from symphony_fl.errors import LocalError
from symphony_fl.identity.did_key import (
    KEY_BYTES,
    did_from_public_key,
    generate_private_key,
    public_key_of,
)
from symphony_fl.identity.rotation import (
    MAX_ROTATIONS,
    ROTATION_BYTES,
    follow,
    read_rotations,
    seal_rotation,
)
from symphony_fl.refusals import Refusal
from symphony_fl.storage.folders import read_file, secret_file, write_atomically

KEY_FILE, RECORD_FILE, PINS_FILE = "key", "identity.json", "peers.json"
MAGIC = b"SFLKEY1\n"
CHECKSUM_BYTES = 32
STATE = (
    "state*",
    "homes/*/state*",
)  # what an agent has committed under its key, in its home or a device's homes


class KeyFileError(LocalError, RuntimeError):
    """A key that must not be used; the message names the file, what is wrong and what to do."""


@dataclass(frozen=True)
class KeyFile:
    """What a key file holds. rotations: statements, oldest first."""

    private_key: bytes
    rotations: bytes

    @property
    def did(self) -> str:
        return did_from_public_key(public_key_of(self.private_key))

    def to_bytes(self) -> bytes:
        """The file's content."""
        data = MAGIC + self.private_key + self.rotations
        return data + hashlib.sha256(data).digest()

    def has_been(self, did: str) -> bool:
        """Whether that is this identity, or one that signed over to it."""
        if did == self.did:
            return True
        try:
            steps = follow(did, read_rotations(self.rotations))
        except Refusal:
            return False
        return any(step.new == self.did for step in steps)


@dataclass(frozen=True)
class Record:
    """What lay here when it was last looked at. did: "" before there was a key."""

    did: str = ""
    pins: bool = False


def open_key_file(path: Path, *, accept: bool = False) -> KeyFile:
    """The identity kept at `path`, made at the first call.

    Parameters
    ----------
    accept : the owner says that the folder is as it should be: a whole key is taken whosever it was, a missing one is
        made anew, and the record is written from what is there

    Raises
    ------
    KeyFileError
        The file is another user's, others may read it or change its folder, it does not hold what it was written with,
        or it is not there though it once was.
    """
    folder = path.parent
    _check_folder(folder)
    record = Record() if accept else read_record(folder)
    known = bool(record.did) or (not accept and _has_state(folder))
    if not os.path.lexists(path):
        if known:
            raise KeyFileError(
                f"{path}: missing, though this is the folder of {record.did or 'an agent with a state'}; restore it "
                f"from a backup, or take a new identity by: symphony key {folder} --accept"
            )
        write_atomically(path, KeyFile(generate_private_key(), b"").to_bytes(), mode=0o600)
    data = secret_file(path, None, _open_to_others)
    found = _read(path, data)
    if known and not (record.did and found.has_been(record.did)):
        what = f"is of {record.did}" if record.did else f"has a state and no {RECORD_FILE}"
        raise KeyFileError(
            f"{path}: the key of {found.did}, but this folder {what}; restore what was there, or if that is whom this "
            f"agent is to be: symphony key {folder} --accept"
        )
    if not data.startswith(MAGIC):
        write_atomically(path, found.to_bytes(), mode=0o600)
    pins = os.path.lexists(folder / PINS_FILE) if accept else record.pins
    _remember(folder, record, Record(found.did, pins))
    return found


def rotate_key(path: Path) -> KeyFile:
    """Replace the key by a fresh one which the old one signs over to. The caller holds the home's lock.

    Raises
    ------
    KeyFileError
        As above, or this identity has changed its key too often for others to follow.
    """
    old = open_key_file(path)
    made = read_rotations(old.rotations)
    if len(made) == MAX_ROTATIONS:
        raise KeyFileError(f"{path}: {MAX_ROTATIONS} rotations, at most {MAX_ROTATIONS}: take a new identity")
    fresh = generate_private_key()
    counter = made[-1].counter + 1 if made else 1
    statement = seal_rotation(old.private_key, fresh, counter)
    write_atomically(path, KeyFile(fresh, old.rotations + statement).to_bytes(), mode=0o600)
    return open_key_file(path)


def check_pins(folder: Path, refusal: Callable[[str], Exception]) -> None:
    """See to it that pins which were there once are there; `refusal` is raised if they are not."""
    record = read_record(folder)
    if os.path.lexists(folder / PINS_FILE):
        _remember(folder, record, replace(record, pins=True))
    elif record.pins:
        raise refusal(
            f"{folder / PINS_FILE}: missing, though this agent had pins; restore it, or do without by: "
            f"symphony key {folder} --accept"
        )


def read_record(folder: Path) -> Record:
    """What is remembered of a folder; an empty record for a new one.

    Raises
    ------
    KeyFileError
        The record is damaged.
    """
    path = folder / RECORD_FILE
    if not os.path.lexists(path):
        return Record()
    try:
        values = json.loads(read_file(path))
        did, pins = values["did"], values["pins"]
        if not isinstance(did, str) or type(pins) is not bool:
            raise ValueError("did must be text and pins true or false")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise KeyFileError(
            f"{path}: damaged ({error}); if key and {PINS_FILE} are as they should be: symphony key {folder} --accept"
        ) from None
    return Record(did, pins)


def _remember(folder: Path, old: Record, new: Record) -> None:
    if new != old or not (folder / RECORD_FILE).exists():
        data = json.dumps({"did": new.did, "pins": new.pins}).encode()
        try:
            write_atomically(folder / RECORD_FILE, data, mode=0o600)
        except IsADirectoryError:
            raise KeyFileError(f"{folder / RECORD_FILE}: is a folder; remove it") from None


def _read(path: Path, data: bytes) -> KeyFile:
    """What the file holds, in the form with a checksum or as a raw key.

    Raises
    ------
    KeyFileError
        It does not hold a key and whole rotations, or not those it was written with.
    """
    again = "restore it from a backup; it cannot be repaired"
    start, end = (len(MAGIC), len(data) - CHECKSUM_BYTES) if data.startswith(MAGIC) else (0, len(data))
    private_key, rotations = data[start : start + KEY_BYTES], data[start + KEY_BYTES : end]
    if end - start < KEY_BYTES or len(rotations) % ROTATION_BYTES:
        raise KeyFileError(
            f"{path}: {len(data)} bytes, must be a key of {KEY_BYTES} and rotations of {ROTATION_BYTES} each "
            f"(beside form and checksum); {again}"
        )
    if start and hashlib.sha256(data[:end]).digest() != data[end:]:
        raise KeyFileError(f"{path}: damaged (its content is not what was written); {again}")
    found = KeyFile(private_key, rotations)
    if rotations and read_rotations(rotations)[-1].new != found.did:
        raise KeyFileError(f"{path}: damaged (its rotations lead to another key); {again}")
    return found


def _has_state(folder: Path) -> bool:
    return any(True for pattern in STATE for _ in folder.glob(pattern))


def _open_to_others(why: str) -> KeyFileError:
    return KeyFileError(
        f"{why} (if others could use it: symphony key --rotate; if it is lost: restore it from a backup)"
    )


def _check_folder(folder: Path) -> None:
    mode = stat.S_IMODE(folder.stat().st_mode)
    if os.name == "posix" and mode & 0o022:
        raise KeyFileError(f"{folder}: mode {mode:04o}, others may replace the key in it: chmod go-w it")
