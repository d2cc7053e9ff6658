"""Who an agent is: an Ed25519 key pair, and its name, the did:key of the public half.

did:key (W3C Credentials Community Group, "The did:key Method v0.9"): `did:key:z` + base58btc of the multicodec
prefix 0xed01 and the 32 bytes of the public key. The name is the key, so no authority assigns names.
"""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

_ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_ED25519_PREFIX = b"\xed\x01"
_DID_PREFIX = "did:key:z"
KEY_BYTES = 32


class IdentityError(ValueError):
    """A key or a did:key that is not well formed."""


def generate_private_key() -> bytes:
    """A fresh private key, 32 raw bytes, from the operating system's randomness."""
    return Ed25519PrivateKey.generate().private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())


def load_private_key(raw: bytes) -> Ed25519PrivateKey:
    """The signing key of 32 raw bytes. Raises IdentityError for any other length."""
    if len(raw) != KEY_BYTES:
        raise IdentityError(f"a private key has {KEY_BYTES} bytes, got {len(raw)}")
    return Ed25519PrivateKey.from_private_bytes(raw)


def public_key_of(private_key: bytes) -> bytes:
    """The 32 raw bytes of the public half of a private key."""
    return load_private_key(private_key).public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def did_from_public_key(public_key: bytes) -> str:
    """The did:key of an Ed25519 public key of 32 raw bytes."""
    if len(public_key) != KEY_BYTES:
        raise IdentityError(f"a public key has {KEY_BYTES} bytes, got {len(public_key)}")
    # The prefix begins with a non-zero byte, so base58's leading-zero rule never applies.
    number = int.from_bytes(_ED25519_PREFIX + public_key, "big")
    digits: list[str] = []
    while number:
        number, remainder = divmod(number, 58)
        digits.append(_ALPHABET[remainder])
    return _DID_PREFIX + "".join(reversed(digits))


def public_key_from_did(did: str) -> bytes:
    """The 32 raw bytes behind an Ed25519 did:key.

    Raises
    ------
    IdentityError
        Another method, another kind of key, or a character outside base58btc.
    """
    if not did.startswith(_DID_PREFIX) or len(did) > len(_DID_PREFIX) + 64:
        raise IdentityError(f"not an Ed25519 did:key: {did[:80]!r}")
    number = 0
    for character in did[len(_DID_PREFIX) :]:
        value = _ALPHABET.find(character)
        if value < 0:
            raise IdentityError(f"not base58btc: {did[:80]!r}")
        number = number * 58 + value
    raw = number.to_bytes(64, "big").lstrip(b"\0")
    if len(raw) != KEY_BYTES + 2 or not raw.startswith(_ED25519_PREFIX):
        raise IdentityError(f"not an Ed25519 did:key: {did[:80]!r}")
    if did_from_public_key(raw[2:]) != did:  # a leading '1' would be a second spelling of the same key
        raise IdentityError(f"not the canonical spelling: {did[:80]!r}")
    return raw[2:]
