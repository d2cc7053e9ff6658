"""What is signed, and who signed it: the same for envelopes and task messages, each with its own domain separator."""

from __future__ import annotations

import hashlib
from collections.abc import Collection

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from symphony_fl import refusals
from symphony_fl.identity.did_key import public_key_from_did

SIGNATURE_BYTES = 64
SENDER_HINT_BYTES = 8


def sender_hint(public_key: bytes) -> bytes:
    """The 8 bytes by which a message names its sender among the known ones."""
    return hashlib.sha256(public_key).digest()[:SENDER_HINT_BYTES]


def signed_message(domain: bytes, run: bytes, body: bytes) -> bytes:
    """What Ed25519 signs: a digest over everything, since it would read a long message twice.

    Parameters
    ----------
    domain : separates kinds of messages, ends with a zero byte.
    run : full 16-byte digest of the run.
    body : every byte that travels before the signature.
    """
    whole = hashlib.sha512(run)
    whole.update(body)
    return domain + whole.digest()


def known_signer(senders: Collection[str], hint: bytes, signature: bytes, message: bytes) -> str:
    """The did:key among `senders` with this hint whose key signed the message.

    Raises
    ------
    UnknownSender
        No sender has that hint.
    BadSignature
        One has, and did not sign this.
    """
    known = False
    for did in senders:
        public_key = public_key_from_did(did)
        if sender_hint(public_key) != hint:
            continue
        known = True
        try:
            Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
        except InvalidSignature:
            continue
        return did
    if known:
        raise refusals.BadSignature("not signed by its sender for this run")
    raise refusals.UnknownSender("not among the known senders")
