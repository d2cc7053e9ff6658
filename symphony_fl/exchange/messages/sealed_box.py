"""Pieces of mail <-> sealed box: all that one agent has for one neighbour, encrypted so that no carrier can read it.

    box = version (1 byte) | hint of the recipient (4) | nonce: sequence (4, big-endian), random (8)
        | pieces, encrypted by ChaCha20-Poly1305 | tag (16)

The key is HKDF-SHA256 of the X25519 secret of the two agents (`key_agreement.py`) with the run, the sender and the
recipient as its context. A box of another run or another sender, for another recipient, or sent back along its own
edge is under another key. The sequence number is part of the nonce, so the tag authenticates it, and the receiver uses
it to tell which boxes are new. Relabelling, repeating or reordering boxes changes nothing. The box does not name its
sender: the carrier's label says whose key to try, and a wrong label fails as a forgery does.

A box holds envelopes and task messages as their authors signed them, so a neighbour that forwards one cannot change it
either. Overhead: 33 bytes per box, and 3 to 5 per piece. Keys last as long as the identities: there is no forward
secrecy beyond `rotation.py`. A carrier still sees who sends how many bytes to whom, and when.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from symphony_fl import refusals
from symphony_fl.exchange.flat import DIGEST_BYTES
from symphony_fl.exchange.messages.bundle import pack_bundle, unpack_bundle
from symphony_fl.exchange.messages.header import ROUND_LIMIT
from symphony_fl.identity.did_key import IdentityError, public_key_from_did, public_key_of
from symphony_fl.identity.key_agreement import shared_secret

VERSION = 0xE1
"""No envelope begins with this byte, since its header would be too long, and no task message does."""
VERSIONS = range(0xE0, 0xF0)
"""First bytes reserved for this and later versions of sealed boxes."""
HINT_BYTES = 4
SEQUENCE_BYTES = 4
NONCE_BYTES = 12
TAG_BYTES = 16
HEAD_BYTES = 1 + HINT_BYTES
OVERHEAD = HEAD_BYTES + NONCE_BYTES + TAG_BYTES
MAX_PIECES = 4096
PARCEL_LIMIT = 256 << 20  # bytes, what a mailbox takes

_DOMAIN = b"symphony-fl/parcel/1\0"


class SealedBoxes:
    """Seals for neighbours and opens what they sealed.

    Parameters
    ----------
    run : 16-byte digest of the run.
    private_key : the agent's Ed25519 private key, 32 raw bytes.
    """

    def __init__(self, run: bytes, private_key: bytes) -> None:
        if len(run) != DIGEST_BYTES:
            raise ValueError(f"run: a digest of {DIGEST_BYTES} bytes is needed")
        self._run = run
        self._private_key = private_key
        self._public_key = public_key_of(private_key)
        self._secrets: dict[
            bytes, bytes
        ] = {}  # public key -> X25519 secret: an elliptic-curve operation each

    def seal(self, recipient: str, sequence: int, pieces: Sequence[bytes]) -> bytes:
        """One sealed box for one neighbour.

        Parameters
        ----------
        recipient : did:key.
        sequence : above that of every earlier box on this edge, below 2^31.
        pieces : envelopes and task messages, at most 4096.

        Raises
        ------
        IdentityError
            No key agreement with that recipient is possible.
        ValueError
            A sequence out of range, too many pieces or bytes.
        """
        if not 0 <= sequence < ROUND_LIMIT or len(pieces) > MAX_PIECES:
            raise ValueError(f"sequence {sequence}, {len(pieces)} pieces: out of range")
        theirs = public_key_from_did(recipient)
        plain = pack_bundle({str(place): piece for place, piece in enumerate(pieces)})
        if len(plain) + OVERHEAD > PARCEL_LIMIT:
            raise ValueError(f"a sealed box of {len(plain) + OVERHEAD} bytes: at most {PARCEL_LIMIT}")
        head = bytes([VERSION]) + _hint(theirs)
        # A round that was killed and is sealed again has the same number: eight random bytes keep nonces apart.
        nonce = sequence.to_bytes(SEQUENCE_BYTES, "big") + os.urandom(NONCE_BYTES - SEQUENCE_BYTES)
        cipher = self._cipher(theirs, sender=self._public_key, recipient=theirs)
        return head + nonce + cipher.encrypt(nonce, plain, head)

    def open(self, data: bytes, sender: str, most: int) -> tuple[int, list[bytes]]:
        """(sequence, pieces) of a box that `sender` sealed for this agent. The caller checks whether it is new.

        Parameters
        ----------
        sender : did:key of the neighbour it is said to come from.
        most : the highest sequence there can be.

        Raises
        ------
        Refusal
            One of `refusals.SEALED_BOX_REFUSALS`, whatever the bytes; nothing else.
        """
        if len(data) > PARCEL_LIMIT:
            raise refusals.Oversized(f"{len(data)} bytes, at most {PARCEL_LIMIT}")
        if data[:1] != bytes([VERSION]):
            if data and data[0] in VERSIONS:
                raise refusals.WrongVersion(f"sealed box of version {data[0]:#x}, this is {VERSION:#x}")
            raise refusals.NotSealed("not encrypted for this agent, where the run demands it")
        if len(data) < OVERHEAD:
            raise refusals.Truncated(f"{len(data)} bytes")
        head, nonce = data[:HEAD_BYTES], data[HEAD_BYTES : HEAD_BYTES + NONCE_BYTES]
        if head[1:] != _hint(self._public_key):
            raise refusals.Misdirected("sealed for another agent")
        try:
            theirs = public_key_from_did(sender)
            cipher = self._cipher(theirs, sender=theirs, recipient=self._public_key)
            plain = cipher.decrypt(nonce, data[HEAD_BYTES + NONCE_BYTES :], head)
        except IdentityError as error:
            raise refusals.WrongPeer(str(error)) from None
        except InvalidTag:
            raise refusals.BadSeal(f"not sealed by {sender} for this agent and this run") from None
        sequence = int.from_bytes(nonce[:SEQUENCE_BYTES], "big")
        if sequence > most:
            raise refusals.FromTheFuture(f"sealed box {sequence}, the run is at {most} at most")
        return sequence, list(unpack_bundle(plain, MAX_PIECES).values())

    def _cipher(self, theirs: bytes, *, sender: bytes, recipient: bytes) -> ChaCha20Poly1305:
        secret = self._secrets.get(theirs)
        if secret is None:
            secret = self._secrets[theirs] = shared_secret(self._private_key, theirs)
        context = _DOMAIN + self._run + sender + recipient
        return ChaCha20Poly1305(HKDF(SHA256(), length=32, salt=None, info=context).derive(secret))


def _hint(public_key: bytes) -> bytes:
    """Tells a misdirected box from a forged one; it is trusted for nothing else."""
    return hashlib.sha256(public_key).digest()[:HINT_BYTES]
