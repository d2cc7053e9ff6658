"""Deliveries: what was packed comes out, and whatever else comes is refused by name."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from examples import examples
from symphony_fl import refusals
from symphony_fl.exchange.messages.bundle import pack_bundle
from symphony_fl.exchange.messages.direct_message import (
    DELIVERY_LIMIT,
    HEAD_BYTES,
    MAX_PIECES,
    pack_direct_message,
    read_body,
    read_head,
)
from symphony_fl.refusals import DIRECT_MESSAGE_REFUSALS, Refusal

RUN, OTHER = bytes(range(16)), bytes(16)
PIECES = st.lists(st.binary(max_size=300), min_size=1, max_size=20)


@given(round=st.integers(1, 2**32 - 1), pieces=PIECES)
def test_what_was_packed_comes_out(round: int, pieces: list[bytes]) -> None:
    data = pack_direct_message(RUN, round, pieces)
    head = read_head(data[:HEAD_BYTES], RUN, last_round=2**32 - 1)
    assert (head.run, head.round, head.size) == (RUN, round, len(data) - HEAD_BYTES)
    assert read_body(data[HEAD_BYTES:]) == pieces


def test_a_damaged_delivery_is_refused_by_name_or_is_another_delivery() -> None:
    outcomes: Counter[str] = Counter()

    @examples(300)
    @given(pieces=PIECES, place=st.integers(0, 400), junk=st.binary(max_size=8))
    @example(pieces=[b"a piece"], place=HEAD_BYTES + 4, junk=b"x")
    def deliver(pieces: list[bytes], place: int, junk: bytes) -> None:
        whole = pack_direct_message(RUN, 3, pieces)
        damaged = whole[:place] + junk + whole[place + len(junk) :]
        try:
            head = read_head(damaged[:HEAD_BYTES], RUN, last_round=5)
            found = read_body(damaged[HEAD_BYTES:])
        except Refusal as error:
            outcomes["refused"] += 1
            assert type(error) in DIRECT_MESSAGE_REFUSALS
            return
        outcomes["read"] += damaged != whole
        assert pack_direct_message(RUN, head.round, found)[HEAD_BYTES:] == damaged[HEAD_BYTES:], (
            "one spelling only"
        )

    deliver()
    assert outcomes["read"] and outcomes["refused"]


@given(st.binary(max_size=HEAD_BYTES + 2))
def test_any_bytes_are_a_head_or_refused(data: bytes) -> None:
    with pytest.raises(Refusal):
        read_head(data, RUN, last_round=5)


def _head(magic: bytes = b"SFD1", run: bytes = RUN, round: int = 1, size: int = 1) -> bytes:
    return magic + run + round.to_bytes(4, "big") + size.to_bytes(4, "big")


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (_head(), None),
        (_head()[:-1], "truncated"),
        (_head(magic=b"SFD2"), "wrong_version"),
        (_head(run=OTHER), "wrong_run"),
        (_head(round=6), "from_the_future"),
        (_head(round=0), "malformed"),
        (_head(size=0), "malformed"),
        (_head(size=DELIVERY_LIMIT + 1), "oversized"),
    ],
)
def test_every_refusal_of_a_head_has_its_name(head: bytes, name: str | None) -> None:
    if name is None:
        assert read_head(head, RUN, last_round=5).round == 1
        return
    with pytest.raises(Refusal) as caught:
        read_head(head, RUN, last_round=5)
    assert caught.value.name == name


def test_a_body_is_labelled_in_order() -> None:
    for labels in (["1"], ["0", "2"], ["1", "0"], ["00"], [""]):
        with pytest.raises(refusals.Malformed):
            read_body(pack_bundle(dict.fromkeys(labels, b"x")))
    with pytest.raises(refusals.Malformed):
        read_body(b"")
    with pytest.raises(refusals.Oversized):
        read_body(pack_bundle({str(place): b"" for place in range(MAX_PIECES + 1)}))


def test_what_is_out_of_bounds_is_not_packed() -> None:
    for run, round, pieces in ((b"short", 1, [b""]), (RUN, 0, [b""]), (RUN, 1 << 32, [b""]), (RUN, 1, [])):
        with pytest.raises(ValueError, match="delivery"):
            pack_direct_message(run, round, pieces)
