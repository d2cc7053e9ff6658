from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from symphony_fl.exchange.messages.bundle import pack_bundle, unpack_bundle
from symphony_fl.refusals import Malformed, Oversized, Refusal, Truncated


@given(st.dictionaries(st.text(max_size=20), st.binary(max_size=300), max_size=6))
def test_round_trip(envelopes: dict[str, bytes]) -> None:
    data = pack_bundle(envelopes)
    assert list(unpack_bundle(data, 6).items()) == list(envelopes.items())
    pieces = sum(len(label.encode()) + len(envelope) for label, envelope in envelopes.items())
    assert len(data) <= pieces + 3 * len(envelopes)


def test_any_bytes_are_a_bundle_in_one_way_only_or_refused() -> None:
    outcomes: Counter[str] = Counter()

    @given(st.binary(max_size=60))
    @example(pack_bundle({"0": b"one", "1>2": b""}))
    def read(data: bytes) -> None:
        try:
            envelopes = unpack_bundle(data, 10)
        except Refusal:
            outcomes["refused"] += 1
            return
        outcomes["read"] += 1
        assert pack_bundle(envelopes) == data

    read()
    assert outcomes["read"] and outcomes["refused"]


def test_refusals() -> None:
    for data, error in (
        (b"\x05abc", Truncated),
        (b"\x01a", Truncated),
        (b"\x01a\x01", Truncated),
        (b"\x01\xff\x00", Malformed),
        (b"\x01a\x00\x01a\x00", Malformed),
        (b"\x81\x08" + b"a" * 1025 + b"\x00", Oversized),
        (b"\x80", Truncated),
        (b"\x81\x00a", Malformed),
        (b"\x80" * 9, Malformed),
    ):
        with pytest.raises(error):
            unpack_bundle(data, 3)
    with pytest.raises(Oversized):
        unpack_bundle(pack_bundle({str(n): b"a" for n in range(4)}), 3)
