"""Key rotation: an agent's old key signs which new key is the agent's from now on, in every run.

    rotation = counter (4 bytes, big-endian) | old public key (32) | new public key (32)
             | signature by the old key (64) | signature by the new key (64)

Both keys sign a domain separator, the counter and both public keys. The old key authorises the new one; the new one
proves that it consents, or an agent could give its place to a neighbour's key. Counters rise with every rotation of an
agent, so that a loop back to an earlier key cannot be replayed. An agent that has accepted a rotation accepts nothing
from the old key any more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from symphony_fl.identity.did_key import KEY_BYTES, did_from_public_key, load_private_key, public_key_of
from symphony_fl.identity.signatures import SIGNATURE_BYTES
from symphony_fl.refusals import BadRotation, Truncated

_DOMAIN = b"symphony-fl/rotation/1\0"
_COUNTER_BYTES = 4
COUNTER_LIMIT = 1 << 31
_BODY_BYTES = _COUNTER_BYTES + 2 * KEY_BYTES
ROTATION_BYTES = _BODY_BYTES + 2 * SIGNATURE_BYTES
MAX_ROTATIONS = 64
"""Of one agent, for its lifetime."""


@dataclass(frozen=True)
class Rotation:
    """A statement as it was read. old, new: did:keys. counter: 1 for an agent's first."""

    counter: int
    old: str
    new: str
    data: bytes


def seal_rotation(old_private_key: bytes, new_private_key: bytes, counter: int) -> bytes:
    """The statement, 196 bytes. counter: above that of every earlier rotation of this agent, 1 .. 2^31 - 1."""
    if not 1 <= counter < COUNTER_LIMIT:
        raise ValueError(f"counter {counter}: must be 1 to {COUNTER_LIMIT - 1}")
    keys = public_key_of(old_private_key) + public_key_of(new_private_key)
    body = counter.to_bytes(_COUNTER_BYTES, "big") + keys
    signers = (old_private_key, new_private_key)
    return body + b"".join(load_private_key(signer).sign(_DOMAIN + body) for signer in signers)


def read_rotations(data: bytes) -> list[Rotation]:
    """Statements one after the other, not yet verified. Raises Truncated where the last is not whole."""
    if len(data) % ROTATION_BYTES:
        raise Truncated(f"rotations of {len(data)} bytes, must be a multiple of {ROTATION_BYTES}")
    starts = range(0, len(data), ROTATION_BYTES)
    return [_read(data[start : start + ROTATION_BYTES]) for start in starts]


def follow(did: str, rotations: Sequence[Rotation], counter: int = 0) -> list[Rotation]:
    """The chain of verified rotations that leads on from `did`; empty where none does.

    Parameters
    ----------
    did : the key an agent is known by.
    counter : of the rotation that led to it, 0 for none.

    Raises
    ------
    BadRotation
        What would continue the chain is not signed by both its keys.
    """
    chain: list[Rotation] = []
    while len(chain) < MAX_ROTATIONS:
        onward = [item for item in rotations if item.old == did and item.counter > counter]
        if not onward:
            break
        signed = [item for item in onward if _is_signed(item)]
        if not signed:
            raise BadRotation(f"{did} did not hand over to {onward[0].new}")
        chain.append(min(signed, key=lambda item: item.counter))
        did, counter = chain[-1].new, chain[-1].counter
    return chain


def _read(data: bytes) -> Rotation:
    start, middle = _COUNTER_BYTES, _COUNTER_BYTES + KEY_BYTES
    old, new = did_from_public_key(data[start:middle]), did_from_public_key(data[middle:_BODY_BYTES])
    return Rotation(int.from_bytes(data[:start], "big"), old, new, data)


def _is_signed(rotation: Rotation) -> bool:
    body, signatures = rotation.data[:_BODY_BYTES], rotation.data[_BODY_BYTES:]
    keys = (body[_COUNTER_BYTES : _COUNTER_BYTES + KEY_BYTES], body[_COUNTER_BYTES + KEY_BYTES :])
    for key, signature in zip(
        keys, (signatures[:SIGNATURE_BYTES], signatures[SIGNATURE_BYTES:]), strict=True
    ):
        try:
            Ed25519PublicKey.from_public_bytes(key).verify(signature, _DOMAIN + body)
        except InvalidSignature:
            return False
    return True
