"""Changes of keys: both keys must sign, the counter must rise, and the chain is followed to its end."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from symphony_fl.identity.did_key import did_from_public_key, public_key_of
from symphony_fl.identity.rotation import ROTATION_BYTES, follow, read_rotations, seal_rotation
from symphony_fl.refusals import BadRotation, Truncated

KEYS = [bytes([number + 1]) * 32 for number in range(4)]
DIDS = [did_from_public_key(public_key_of(key)) for key in KEYS]
FIRST, SECOND = seal_rotation(KEYS[0], KEYS[1], 1), seal_rotation(KEYS[1], KEYS[2], 2)


def test_a_chain_is_followed_in_whatever_order_it_comes() -> None:
    for data in (FIRST + SECOND, SECOND + FIRST):
        assert [step.new for step in follow(DIDS[0], read_rotations(data))] == [DIDS[1], DIDS[2]]
        assert [step.counter for step in follow(DIDS[1], read_rotations(data))] == [2]
        assert follow(DIDS[2], read_rotations(data)) == follow(DIDS[3], read_rotations(data)) == []
    assert len(FIRST) == ROTATION_BYTES == 196


def test_a_loop_back_is_not_replayed() -> None:
    back = read_rotations(FIRST + seal_rotation(KEYS[1], KEYS[0], 2))
    assert [step.new for step in follow(DIDS[0], back)] == [DIDS[1], DIDS[0]]
    assert follow(DIDS[0], back, counter=2) == []


@given(st.integers(0, ROTATION_BYTES - 1), st.integers(1, 255))
def test_a_changed_statement_moves_nobody(place: int, change: int) -> None:
    changed = bytearray(FIRST)
    changed[place] ^= change
    rotations = read_rotations(bytes(changed))
    if rotations[0].old == DIDS[0] and rotations[0].counter:
        with pytest.raises(BadRotation):
            follow(DIDS[0], rotations)
    else:
        assert follow(DIDS[0], rotations) == []


def test_nobody_hands_over_to_a_key_that_did_not_sign() -> None:
    body = FIRST[:-64]
    with pytest.raises(BadRotation):  # the old key alone: its holder would take a neighbour's place
        follow(DIDS[0], read_rotations(body + FIRST[-128:-64]))


def test_a_forgery_beside_the_true_statement_changes_nothing() -> None:
    forged = read_rotations(bytes([0, 0, 0, 1]) + FIRST[4:36] + public_key_of(KEYS[3]) + bytes(128))
    assert [step.new for step in follow(DIDS[0], forged + read_rotations(FIRST))] == [DIDS[1]]


def test_garbage_is_refused_or_moves_nobody() -> None:
    outcomes: Counter[str] = Counter()

    @given(
        st.binary(max_size=3 * ROTATION_BYTES)
        | st.integers(1, 3).flatmap(
            lambda n: st.binary(min_size=n * ROTATION_BYTES, max_size=n * ROTATION_BYTES)
        )
    )
    def read(data: bytes) -> None:
        try:
            rotations = read_rotations(data)
        except Truncated:
            outcomes["refused"] += 1
            assert len(data) % ROTATION_BYTES
            return
        outcomes["read"] += bool(rotations)
        assert follow(DIDS[0], rotations) == []

    read()
    assert outcomes["read"] and outcomes["refused"]


def test_counters_out_of_range() -> None:
    for counter in (0, 2**31):
        with pytest.raises(ValueError, match="must be 1 to"):
            seal_rotation(KEYS[0], KEYS[1], counter)
