"""One key pair for signing and for agreeing on keys: the map between the curves, and the keys it must refuse."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from symphony_fl.identity.did_key import IdentityError, public_key_of
from symphony_fl.identity.key_agreement import agreement_private_key, agreement_public_key, shared_secret

SEED = st.binary(min_size=32, max_size=32)
P = 2**255 - 19


def test_a_published_pair() -> None:
    """libsodium's test of crypto_sign_ed25519_pk_to_curve25519."""
    seed = bytes.fromhex("421151a459faeade3d247115f94aedae42318124095afabe4d1451a559faedee")
    theirs = agreement_public_key(public_key_of(seed)).public_bytes_raw()
    assert theirs.hex() == "f1814f0e8ff1043d8a44d25babff3cedcae6c22c3edaa48f857ae70de2baae50"


@given(SEED, SEED)
def test_both_ends_find_the_same_secret_and_the_halves_fit(ours: bytes, theirs: bytes) -> None:
    assert (
        agreement_private_key(ours).public_key().public_bytes_raw()
        == agreement_public_key(public_key_of(ours)).public_bytes_raw()
    )
    assert shared_secret(ours, public_key_of(theirs)) == shared_secret(theirs, public_key_of(ours))


@pytest.mark.parametrize("y", [0, 1, P - 1, P, P + 1, 2**255 - 1])
def test_points_that_everybody_shares_a_secret_with_are_refused(y: int) -> None:
    with pytest.raises(IdentityError):
        shared_secret(bytes(range(32)), y.to_bytes(32, "little"))


@pytest.mark.parametrize("length", [0, 31, 33])
def test_other_lengths_are_refused(length: int) -> None:
    with pytest.raises(IdentityError, match=f"got {length}"):
        agreement_public_key(bytes(length))
    with pytest.raises(IdentityError, match=f"got {length}"):
        agreement_private_key(bytes(length))
