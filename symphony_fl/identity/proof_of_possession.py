"""Proof that an agent holds the key it names when it introduces itself: a signature over the server's fresh nonce.

A did:key is public. Without proof, any admitted node could take the place of any agent, with its mail and its tasks:
neighbours would refuse what the node sends, and the server would no longer ask the true agent.
"""

from __future__ import annotations

import secrets

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from symphony_fl.identity.did_key import load_private_key, public_key_from_did
from symphony_fl.identity.signatures import signed_message
from symphony_fl.refusals import BadSignature

NONCE_BYTES = 16

_DOMAIN = b"symphony-fl/introduction/1\0"


def new_nonce() -> bytes:
    """A nonce for one greeting: a signature over it is valid for no other."""
    return secrets.token_bytes(NONCE_BYTES)


def prove(private_key: bytes, run: str, nonce: bytes, agent: int) -> bytes:
    """Ed25519 signature, 64 bytes, for the server that sent the nonce in its greeting.

    Raises
    ------
    ValueError
        The nonce has another length.
    """
    return load_private_key(private_key).sign(_message(run, nonce, agent))


def check_proof(did: str, run: str, nonce: bytes, agent: int, proof: bytes) -> None:
    """That the did:key's own key signed this greeting as that agent of the run.

    Raises
    ------
    BadSignature
        It did not.
    """
    key = Ed25519PublicKey.from_public_bytes(public_key_from_did(did))
    try:
        key.verify(proof, _message(run, nonce, agent))
    except InvalidSignature:
        raise BadSignature(f"agent {agent} does not show that it holds the key of {did}") from None


def _message(run: str, nonce: bytes, agent: int) -> bytes:
    if len(nonce) != NONCE_BYTES:
        raise ValueError(f"a nonce of {len(nonce)} bytes, must be {NONCE_BYTES}")
    return signed_message(_DOMAIN, run.encode(), nonce + str(agent).encode())
