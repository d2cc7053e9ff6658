"""Parcels: what comes out is what went in, and nothing else comes out, whatever is done to the bytes on their way."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from symphony_fl import refusals
from symphony_fl.exchange.messages.sealed_box import HEAD_BYTES, NONCE_BYTES, OVERHEAD, VERSION, SealedBoxes
from symphony_fl.identity.did_key import did_from_public_key, public_key_of

RUN = b"sixteen bytes...".ljust(16)[:16]
KEYS = [bytes([number + 1]) * 32 for number in range(3)]
DIDS = [did_from_public_key(public_key_of(key)) for key in KEYS]
EDGES = [SealedBoxes(RUN, key) for key in KEYS]
PIECES = [b"an envelope", b"", b"a letter" * 40]
PARCEL = EDGES[0].seal(DIDS[1], 7, PIECES)
FEW = st.lists(st.binary(max_size=300), max_size=5)


@given(FEW, st.integers(0, 2**31 - 1))
def test_what_went_in_comes_out_and_costs_little(pieces: list[bytes], sequence: int) -> None:
    parcel = EDGES[0].seal(DIDS[1], sequence, pieces)
    assert EDGES[1].open(parcel, DIDS[0], 2**31 - 1) == (sequence, pieces)
    assert OVERHEAD == 33
    assert len(parcel) <= 33 + sum(4 + len(piece) for piece in pieces)


def test_two_equal_mails_look_unlike_and_show_nothing() -> None:
    secret = bytes(range(256)) * 8
    first, second = (EDGES[0].seal(DIDS[1], 7, [secret]) for _ in range(2))
    head = HEAD_BYTES + 4  # version, recipient, sequence: what shows
    assert first[:head] == second[:head]
    assert sum(a == b for a, b in zip(first[head:], second[head:], strict=True)) < 50  # 8 by chance
    for parcel in (first, second):
        assert not any(secret[start : start + 4] in parcel for start in range(0, 256, 4))
        assert public_key_of(KEYS[0])[:4] not in parcel


@given(st.integers(0, len(PARCEL) - 1), st.integers(1, 255))
def test_no_byte_can_be_changed(place: int, change: int) -> None:
    changed = bytearray(PARCEL)
    changed[place] ^= change
    with pytest.raises(refusals.SEALED_BOX_REFUSALS):
        EDGES[1].open(bytes(changed), DIDS[0], 100)


@given(st.one_of(st.binary(max_size=120), st.binary(max_size=120).map(lambda data: PARCEL[:5] + data)))
def test_garbage_is_refused_by_name(data: bytes) -> None:
    with pytest.raises(refusals.SEALED_BOX_REFUSALS):
        EDGES[1].open(data, DIDS[0], 100)


def test_every_way_to_misuse_a_parcel_has_its_name() -> None:
    other_run = SealedBoxes(b"another run here", KEYS[0]).seal(DIDS[1], 7, PIECES)
    back = EDGES[1].seal(DIDS[0], 7, PIECES)
    renumbered = bytearray(PARCEL)
    renumbered[HEAD_BYTES + 3] = 8
    redirected = PARCEL[:1] + EDGES[0].seal(DIDS[2], 7, [])[1:HEAD_BYTES] + PARCEL[HEAD_BYTES:]
    low_order = did_from_public_key((1).to_bytes(32, "little"))
    cases = [
        (EDGES[1], PARCEL, DIDS[2], 100, refusals.BadSeal),  # said to come from another
        (EDGES[2], PARCEL, DIDS[0], 100, refusals.Misdirected),
        (EDGES[2], redirected, DIDS[0], 100, refusals.BadSeal),
        (EDGES[1], other_run, DIDS[0], 100, refusals.BadSeal),
        (EDGES[1], back, DIDS[0], 100, refusals.Misdirected),
        (EDGES[0], PARCEL, DIDS[1], 100, refusals.Misdirected),  # back to where it came from
        (EDGES[1], bytes(renumbered), DIDS[0], 100, refusals.BadSeal),
        (EDGES[1], PARCEL, DIDS[0], 6, refusals.FromTheFuture),
        (EDGES[1], PARCEL, low_order, 100, refusals.WrongPeer),
        (EDGES[1], PARCEL[: OVERHEAD - 1], DIDS[0], 100, refusals.Truncated),
        (EDGES[1], bytes([VERSION + 1]) + PARCEL[1:], DIDS[0], 100, refusals.WrongVersion),
        (EDGES[1], b"\x00\x40" + bytes(100), DIDS[0], 100, refusals.NotSealed),
        (EDGES[1], b"SFTL" + bytes(100), DIDS[0], 100, refusals.NotSealed),
        (EDGES[1], b"", DIDS[0], 100, refusals.NotSealed),
    ]
    for receiver, data, sender, most, refusal in cases:
        with pytest.raises(refusal):
            receiver.open(data, sender, most)


def test_an_edge_carries_a_parcel_one_way() -> None:
    """The same two agents share one secret; each direction has its own key."""
    there = EDGES[0].seal(DIDS[1], 7, PIECES)
    back = EDGES[1].seal(DIDS[0], 7, PIECES)
    reflected = back[:HEAD_BYTES] + there[HEAD_BYTES:]  # to its sender, under the right hint
    with pytest.raises(refusals.BadSeal):
        EDGES[0].open(reflected, DIDS[1], 100)


def test_a_neighbour_with_a_key_can_seal_nonsense_and_no_more() -> None:
    inside = EDGES[0]._cipher(
        public_key_of(KEYS[1]), sender=public_key_of(KEYS[0]), recipient=public_key_of(KEYS[1])
    )
    head, nonce = PARCEL[:HEAD_BYTES], bytes(NONCE_BYTES)
    for plain in (b"\x01", b"\x010\xff\xff\xff\xff\x7f", b"\x80\x00"):
        with pytest.raises((refusals.Truncated, refusals.Malformed)):
            EDGES[1].open(head + nonce + inside.encrypt(nonce, plain, head), DIDS[0], 100)


def test_what_cannot_be_sealed() -> None:
    with pytest.raises(ValueError, match="out of range"):
        EDGES[0].seal(DIDS[1], 2**31, [])
    with pytest.raises(ValueError, match="4097 pieces"):
        EDGES[0].seal(DIDS[1], 1, [b""] * 4097)
    with pytest.raises(ValueError, match="digest of 16 bytes"):
        SealedBoxes(b"short", KEYS[0])
