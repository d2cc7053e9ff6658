"""Who of a network's devices asks: Flower's node authentication, checked before a request's body is read.

A SuperNode sends its public key, the time, and a signature over the time with every request. The SuperLink checks them
too, and which node the key belongs to, but only after it has read the whole request.
"""

from __future__ import annotations

import binascii
import stat
import time
from base64 import b64decode
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_ssh_public_key

KEY_HEADER, TIME_HEADER, SIGNATURE_HEADER = b"flwr-public-key", b"flwr-timestamp", b"flwr-signature"
OLDEST, AHEAD = 305.0, 5.0  # seconds a signed time may lie behind ours and before it; Flower's figures
LOOK_SECONDS = 1.0  # between two looks into the folder
MAX_FILE = 16 << 10  # bytes of a public key's file


class NotAdmitted(Exception):
    """A request that no admitted device has signed. `name` is what it is counted as, `status` the answer."""

    def __init__(self, name: str, status: int) -> None:
        super().__init__(name)
        self.name = name
        self.status = status


class Admitted:
    """The public keys in a folder, as of now: a file that is taken away shuts its device out.

    Parameters
    ----------
    folder : of files `*.pub` in OpenSSH's format
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._files: dict[Path, tuple[tuple[int, int, int], bytes]] = {}
        self._keys: dict[bytes, ec.EllipticCurvePublicKey] = {}
        self._next = 0.0

    def signer(self, headers: Sequence[tuple[bytes, bytes]]) -> bytes:
        """The admitted key that signed these headers, as they name it. Header names are in lower case.

        Raises
        ------
        NotAdmitted
            None did.
        """
        named, signed_at, signature = (
            [value for name, value in headers if name == wanted]
            for wanted in (KEY_HEADER, TIME_HEADER, SIGNATURE_HEADER)
        )
        if not len(named) == len(signed_at) == len(signature) == 1:
            raise NotAdmitted("unsigned", 401)
        try:
            key, signed = b64decode(named[0], validate=True), b64decode(signature[0], validate=True)
            age = (datetime.now(UTC) - datetime.fromisoformat(signed_at[0].decode("ascii"))).total_seconds()
        except (binascii.Error, ValueError, TypeError, OverflowError):  # TypeError: a time without its zone
            raise NotAdmitted("unreadable_signature", 401) from None
        known = self._known().get(key)
        if known is None:
            raise NotAdmitted(
                "key_not_admitted", 412
            )  # the status by which Flower refuses a key it does not know
        if not -AHEAD < age < OLDEST:
            raise NotAdmitted("clock_differs", 401)
        try:
            known.verify(signed, signed_at[0], ec.ECDSA(SHA256()))
        except InvalidSignature:
            raise NotAdmitted("forged_signature", 401) from None
        return key

    def _known(self) -> dict[bytes, ec.EllipticCurvePublicKey]:
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + LOOK_SECONDS
            self._look()
        return self._keys

    def _look(self) -> None:
        files = {}
        for path in sorted(self.folder.glob("*.pub")):
            try:
                facts = path.stat()
                if not stat.S_ISREG(facts.st_mode) or facts.st_size > MAX_FILE:
                    continue
                mark = (facts.st_ino, facts.st_mtime_ns, facts.st_size)
                before = self._files.get(path)
                files[path] = before if before and before[0] == mark else (mark, path.read_bytes())
            except OSError:  # `symphony network` says so
                continue
        if files != self._files:
            self._files = files
            self._keys = dict(filter(None, (_named(data) for _, data in files.values())))


def _named(file: bytes) -> tuple[bytes, ec.EllipticCurvePublicKey] | None:
    """(the key as Flower's nodes name it, the key) of a public key's file; None if it is no ECDSA key."""
    try:
        key = load_ssh_public_key(file.strip())
    except (ValueError, UnsupportedAlgorithm):
        return None
    if not isinstance(key, ec.EllipticCurvePublicKey):
        return None
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo), key
