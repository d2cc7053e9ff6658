"""Frames over a Unix socket: how the ClientApp and the agent process beside it talk.

    frame = "SFL1" | u8 length of the word | word (ASCII) | u64 length of the body, big-endian | body

A request's word is the kind of message or "health", a reply's is "ok" or "error". Bodies are protobuf or UTF-8 text,
never pickle. Both ends check that the other runs as the same user; the folder that holds the socket must be private.
"SFL1" names the version: any other is refused, so that a device is updated as a whole.
"""

from __future__ import annotations

import os
import socket
import stat
import struct
import sys
from pathlib import Path

MAGIC = b"SFL1"
OK, ERROR, HEALTH = "ok", "error", "health"
MAX_WORD = 64  # bytes
MAX_BODY = 1 << 30  # bytes; a message with an adapter of 100 M entries still fits
MAX_PATH = 100  # bytes of a socket's path; the systems allow 104 to 108
_LENGTH = struct.Struct(">Q")


class FrameError(ConnectionError):
    """The bytes received are no frame, or come from a process that may not connect here."""


class Disconnected(FrameError):
    """The other end went away before a whole frame had come."""


def encode_head(word: str, size: int) -> bytes:
    """The bytes before a body of `size` bytes.

    Raises
    ------
    FrameError
        Word or body are too long, or the word is not ASCII.
    """
    raw = word.encode("ascii", "replace")
    if not 0 < len(raw) <= MAX_WORD or size > MAX_BODY or raw.decode() != word:
        raise FrameError(
            f"frame: word {word!r:.80} of at most {MAX_WORD} ASCII bytes, body {size} of {MAX_BODY}"
        )
    return MAGIC + bytes([len(raw)]) + raw + _LENGTH.pack(size)


def send_frame(connection: socket.socket, word: str, body: bytes) -> None:
    """Write one frame."""
    connection.sendall(encode_head(word, len(body)))
    if body:  # an empty frame is answered, and the connection closed, as soon as its head is there
        connection.sendall(body)


def receive_frame(connection: socket.socket) -> tuple[str, bytes]:
    """Read one frame: (word, body).

    Raises
    ------
    FrameError
        Another version, a length out of bounds, or the connection ended (Disconnected).
    """
    magic = _exactly(connection, len(MAGIC))
    if magic != MAGIC:
        raise FrameError(f"frame: begins with {magic!r}, this version speaks {MAGIC!r}")
    length = _exactly(connection, 1)[0]
    if not 0 < length <= MAX_WORD:
        raise FrameError(f"frame: word of {length} bytes, must be 1 to {MAX_WORD}")
    raw = _exactly(connection, length)
    if not raw.isascii():
        raise FrameError("frame: the word is not ASCII")
    (size,) = _LENGTH.unpack(_exactly(connection, _LENGTH.size))
    if size > MAX_BODY:
        raise FrameError(f"frame: body of {size} bytes, at most {MAX_BODY}")
    return raw.decode(), _exactly(connection, size)


def check_peer(connection: socket.socket) -> None:
    """Refuse a peer that runs as another user. Linux tells who it is; elsewhere the private folder alone protects.

    Raises
    ------
    FrameError
        Another user's process.
    """
    if sys.platform != "linux":
        return
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _, user, _ = struct.unpack("3i", raw)
    if user != os.getuid():
        raise FrameError(f"socket: a process of user {user} is at the other end, we are user {os.getuid()}")


def check_place(path: Path) -> None:
    """A socket's folder must be ours and closed to all other users.

    Raises
    ------
    FrameError
        It is not, or the path is too long for a Unix socket.
    """
    if len(os.fsencode(path)) > MAX_PATH:
        raise FrameError(f"socket {path}: the path has more than {MAX_PATH} bytes; choose a shorter folder")
    facts = path.parent.stat()
    mode = stat.S_IMODE(facts.st_mode)
    if facts.st_uid != os.getuid() or mode & 0o077:
        raise FrameError(
            f"{path.parent}: mode {mode:04o}, owner {facts.st_uid}; must be 0700 and owned by user {os.getuid()}"
        )


def connect(path: Path, timeout: float | None) -> socket.socket:
    """A checked connection to the agent process; `timeout` seconds hold for every later step, None is for ever.

    Raises
    ------
    FrameError, OSError
        The folder or the peer is another user's, or no process listens.
    """
    check_place(path)
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(timeout)
        connection.connect(str(path))
        check_peer(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _exactly(connection: socket.socket, size: int) -> bytes:
    """`size` bytes; memory grows with what arrives, not with what was announced."""
    data = bytearray()
    while len(data) < size:
        piece = connection.recv(min(size - len(data), 1 << 20))
        if not piece:
            raise Disconnected(f"frame: the connection ended after {len(data)} of {size} bytes")
        data += piece
    return bytes(data)
