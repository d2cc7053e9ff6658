from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from symphony_fl.identity.did_key import (
    IdentityError,
    did_from_public_key,
    generate_private_key,
    public_key_from_did,
    public_key_of,
)


def test_known_vector_of_the_did_key_method() -> None:
    # did:key method specification, Ed25519 test vector; its public key written in hexadecimal.
    did = "did:key:z6MkiTBz1ymuepAQ4HEHYSF1H8quG5GLVVQR3djdX3mDooWp"
    public = public_key_from_did(did)
    assert public.hex() == "3b6a27bcceb6a42d62a3a8d02a6f0d73653215771de243a63ac048a18b59da29"
    assert did_from_public_key(public) == did
    assert public_key_of(bytes(32)) == public  # the key of the all-zero seed


@given(st.binary(min_size=32, max_size=32))
def test_round_trip(public: bytes) -> None:
    assert public_key_from_did(did_from_public_key(public)) == public


@given(st.text(max_size=80))
def test_anything_else_is_refused(text: str) -> None:
    for did in (text, "did:key:z" + text, "did:key:z6Mk" + text):
        try:
            assert did_from_public_key(public_key_from_did(did)) == did
        except IdentityError:
            pass


def test_wrong_lengths() -> None:
    assert len(generate_private_key()) == 32
    for call in (did_from_public_key, public_key_of):
        with pytest.raises(IdentityError):
            call(b"short")
