"""From an agent's Ed25519 identity to the X25519 key pair that its neighbours encrypt to.

The two curves are one in other coordinates (RFC 7748, section 4.1): u = (1 + y) / (1 - y) takes an Ed25519 public key
to the X25519 public key of the same secret scalar, as the did:key method itself derives a `keyAgreement`. So a
neighbour's did:key *is* its encryption key: there is no second key that a relay could swap, and nothing to introduce,
sign or store. That one key pair may serve signatures and key agreement is shown by Thormarker, "On using the
same key pair for Ed25519 and an X25519 based KEM" (2021), for key derivations that bind both public keys, as ours does.
"""

from __future__ import annotations

import hashlib

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from symphony_fl.identity.did_key import KEY_BYTES, IdentityError

_FIELD = 2**255 - 19


def agreement_private_key(private_key: bytes) -> X25519PrivateKey:
    """The X25519 half of an Ed25519 private key of 32 raw bytes: the scalar of RFC 8032, section 5.1.5."""
    if len(private_key) != KEY_BYTES:
        raise IdentityError(f"a private key has {KEY_BYTES} bytes, got {len(private_key)}")
    return X25519PrivateKey.from_private_bytes(hashlib.sha512(private_key).digest()[:KEY_BYTES])


def agreement_public_key(public_key: bytes) -> X25519PublicKey:
    """The X25519 half of an Ed25519 public key of 32 raw bytes.

    Raises
    ------
    IdentityError
        No encoding of a point of the curve's large subgroup that this map is made for.
    """
    if len(public_key) != KEY_BYTES:
        raise IdentityError(f"a public key has {KEY_BYTES} bytes, got {len(public_key)}")
    y = int.from_bytes(public_key, "little") & (
        (1 << 255) - 1
    )  # the highest bit is the sign of x, which u ignores
    if y >= _FIELD or y == 1:  # not canonical; the neutral element
        raise IdentityError("a public key that is no point to agree on keys with")
    u = (1 + y) * pow(1 - y, -1, _FIELD) % _FIELD
    return X25519PublicKey.from_public_bytes(u.to_bytes(KEY_BYTES, "little"))


def shared_secret(private_key: bytes, public_key: bytes) -> bytes:
    """32 bytes that only the holders of the two Ed25519 private keys can compute; not uniform, so never a key itself.

    Raises
    ------
    IdentityError
        The public key is of low order: anyone could compute that secret.
    """
    try:
        return agreement_private_key(private_key).exchange(agreement_public_key(public_key))
    except ValueError as error:
        raise IdentityError(f"no key can be agreed on with this public key ({error})") from None
