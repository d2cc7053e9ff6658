"""Weights in chunks: whole again whatever the order, and nothing but the trainer's own chunks gets in."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mutations import KINDS, announce_huge, damage

from examples import examples
from symphony_fl import refusals
from symphony_fl.exchange.messages.chunks import (
    AROUND,
    INCOMPLETE,
    Assembly,
    Chunk,
    cut,
    is_chunk,
    open_chunk,
)
from symphony_fl.identity.did_key import did_from_public_key, public_key_of

RUN = b"R" * 16
KEYS = tuple(bytes([n + 1] * 32) for n in range(2))
TRAINER = did_from_public_key(public_key_of(KEYS[0]))
SIZE = 64


def opened(data: bytes, size: int = SIZE) -> Chunk:
    return open_chunk(data, RUN, TRAINER, size)


@given(
    data=st.binary(min_size=SIZE + 1, max_size=20 * SIZE),
    version=st.integers(0, 2**31 - 1),
    chance=st.randoms(use_true_random=False),
)
@examples(40)
def test_chunks_in_any_order_are_the_envelope_again(data: bytes, version: int, chance: object) -> None:
    pieces = cut(RUN, KEYS[0], version, data, SIZE)
    assert len(pieces) == -(-len(data) // SIZE) and all(len(p) <= SIZE + AROUND for p in pieces)
    chance.shuffle(pieces)  # type: ignore[attr-defined]
    assembly = Assembly()
    for piece in pieces[:-1]:
        assert assembly.add(opened(piece)) is None
    restored = Assembly()
    restored.load(assembly.arrays())  # a home in between
    assert restored.add(opened(pieces[-1])) == data
    assert restored.arrays() == {}


def test_what_fits_travels_as_it_is() -> None:
    assert cut(RUN, KEYS[0], 1, b"x" * SIZE, SIZE) == [b"x" * SIZE]


def test_damage_is_refused_by_name() -> None:
    outcomes: Counter[str] = Counter()

    @given(kind=st.integers(0, KINDS), seed=st.integers(0, 2**32 - 1))
    @examples(200)
    def hurt_one(kind: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        pieces = cut(RUN, KEYS[0], 7, rng.bytes(3 * SIZE), SIZE)
        hurt = bytearray(pieces[0])
        if kind == KINDS:
            announce_huge(hurt, int(rng.integers(4, len(hurt) - 5)), rng)
        else:
            damage(hurt, kind, rng, pieces[1:])
        if bytes(hurt) in pieces:
            return
        outcomes["hurt"] += 1
        with pytest.raises(refusals.CHUNK_REFUSALS):
            opened(bytes(hurt))

    hurt_one()
    assert outcomes["hurt"] > 10


def test_each_reason_has_its_name() -> None:
    piece = cut(RUN, KEYS[0], 7, b"w" * 100, SIZE)[0]
    forged = cut(RUN, KEYS[1], 7, b"w" * 100, SIZE)[0]
    other_run = cut(b"S" * 16, KEYS[0], 7, b"w" * 100, SIZE)[0]
    for data, error in (
        (piece + b"x" * AROUND, refusals.Oversized),
        (piece[:60], refusals.Truncated),
        (b"XXXX" + piece[4:], refusals.Malformed),
        (other_run, refusals.WrongRun),
        (forged, refusals.BadSignature),
        (piece[:-1] + bytes([piece[-1] ^ 1]), refusals.BadSignature),
    ):
        with pytest.raises(error):
            opened(data)
    with pytest.raises(refusals.Malformed):
        opened(piece, size=SIZE + 1)
    assert is_chunk(piece)


def test_a_chunk_counts_once_and_the_oldest_envelope_in_the_making_goes() -> None:
    assembly = Assembly()
    assembly.add(Chunk(1, 0, 2, b"a"))
    with pytest.raises(refusals.Replayed):
        assembly.add(Chunk(1, 0, 2, b"a"))
    for version in range(2, INCOMPLETE + 2):
        assembly.add(Chunk(version, 0, 2, b"a"))
    assert sorted(name.split("/")[0] for name in assembly.arrays()) == ["2", "3", "4", "5"]
    assembly.forget(4)
    assert [name.split("/")[0] for name in assembly.arrays()] == ["5"]
