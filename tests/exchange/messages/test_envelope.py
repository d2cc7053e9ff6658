from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgpack
import numpy as np
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from mutations import KINDS, announce_huge, damage

from examples import examples, few_or
from symphony_fl import refusals
from symphony_fl.exchange.codecs.codec import CODECS, build_codec
from symphony_fl.exchange.codecs.indices import encode_indices
from symphony_fl.exchange.messages.envelope import _FORMAT, _signed, open_envelope, seal
from symphony_fl.exchange.messages.header import RewardReport
from symphony_fl.exchange.messages.session import Expectation
from symphony_fl.exchange.selection.selection import SELECTIONS
from symphony_fl.identity.did_key import load_private_key

Run = Any  # conftest.Run, which pytest does not let tests import
MakeRun = Callable[..., Run]


def _resigned(
    run: Run, data: bytes, change: Callable[[list], None], payload: bytes | None = None, agent: int = 0
) -> bytes:
    """A known sender that signs what no honest one would: header fields changed, payload replaced."""
    length = int.from_bytes(data[:2], "big")
    fields = msgpack.unpackb(data[2 : 2 + length])
    change(fields)
    header = msgpack.packb(fields, use_single_float=True)
    body = len(header).to_bytes(2, "big") + header + (data[2 + length : -64] if payload is None else payload)
    return body + load_private_key(run.keys[agent]).sign(_signed(run.session, body))


def _set(place: int, value: object) -> Callable[[list], None]:
    def change(fields: list) -> None:
        fields[place] = value

    return change


def _keep(fields: list) -> None:
    del fields


def _refused(run: Run, data: bytes, error: type[refusals.Refusal], **newest: int) -> None:
    with pytest.raises(refusals.Refusal) as caught:
        open_envelope(data, run.expectation(**newest))
    assert type(caught.value) is error, repr(caught.value)


@pytest.mark.parametrize("selection", sorted(SELECTIONS))
@pytest.mark.parametrize("coding", sorted(CODECS))
def test_what_is_opened_is_what_was_sealed(make_run: MakeRun, selection: str, coding: str) -> None:
    run = make_run(selection, coding)
    sealed = run.seal(agent=1, round=4)
    update = open_envelope(sealed.data, run.expectation(a1=3))
    assert update.sender == run.dids[1] == sealed.update.sender
    assert (update.round, update.kind, update.adapter) == (4, "values", bytes(range(16)))
    assert np.array_equal(update.indices, sealed.update.indices)
    assert np.array_equal(update.values, sealed.update.values)
    assert len(sealed.data) <= run.session.max_bytes


def test_reports_travel(make_run: MakeRun) -> None:
    run = make_run()
    indices = run.session.selection.select(np.zeros(2000), 0)
    reports = (RewardReport("add", 0.25, 64), RewardReport("größer", -1.0, 0))
    values = np.ones(indices.size, dtype=np.float32)
    sealed = seal(
        run.session, run.keys[0], round=0, indices=indices, values=values, adapter=bytes(16), rewards=reports
    )
    assert open_envelope(sealed.data, run.expectation()).rewards == reports
    for wrong in ([RewardReport("x" * 33, 0.0, 1)], [RewardReport("x", float("nan"), 1)], [reports[0]] * 65):
        with pytest.raises(ValueError, match="reward"):
            seal(
                run.session,
                run.keys[0],
                round=0,
                indices=indices,
                values=values,
                adapter=bytes(16),
                rewards=wrong,
            )


def test_overhead_is_at_most_200_bytes(make_run: MakeRun) -> None:
    run = make_run("random", "sign", size=540_672, density=0.005)
    sealed = run.seal(round=100_000)
    assert len(sealed.data) - run.session.codec.nbytes(sealed.update.indices.size) <= 140


def test_half_a_million_entries_at_half_a_percent_fit_5800_bytes(make_run: MakeRun) -> None:
    run = make_run("random", "bfloat16", size=540_672, density=0.005)
    assert len(run.seal().data) <= 5800


def test_every_named_refusal(make_run: MakeRun) -> None:
    run = make_run()
    data = run.seal(round=3).data
    plain = run.session.codec.encode(np.ones(100, dtype=np.float32))
    _refused(run, data[:40], refusals.Truncated)
    _refused(run, data[:-1], refusals.BadSignature)
    _refused(run, data + bytes(run.session.max_bytes), refusals.Oversized)
    _refused(run, b"\xff\xff" + data[2:], refusals.Oversized)
    _refused(run, _resigned(run, data, _set(0, 2)), refusals.WrongVersion)
    _refused(run, _resigned(run, data, _set(1, b"none")), refusals.WrongRun)
    _refused(run, _resigned(run, data, _set(2, b"somebody")), refusals.UnknownSender)
    _refused(run, _resigned(run, data, _keep, agent=1), refusals.BadSignature)
    _refused(run, data, refusals.Replayed, a0=3)
    _refused(run, data, refusals.Replayed, a0=9)
    _refused(run, _resigned(run, data, _set(3, (1 << 20) + 1)), refusals.FromTheFuture)
    _refused(run, _resigned(run, data, _set(4, b"none")), refusals.WrongBase)
    _refused(run, _resigned(run, data, _set(5, b"none")), refusals.WrongLayout)
    _refused(run, _resigned(run, data, _set(6, 1)), refusals.WrongKind)
    _refused(run, _resigned(run, data, _set(7, 2)), refusals.WrongSelection)
    _refused(run, _resigned(run, data, _set(8, 2)), refusals.WrongCoding)
    _refused(run, _resigned(run, data, _set(9, 99)), refusals.WrongSelection)
    _refused(run, _resigned(run, data, _set(9, 2**31 - 1)), refusals.WrongSelection)
    _refused(run, _resigned(run, data, _set(10, 5)), refusals.BadIndices)
    _refused(run, _resigned(run, data, _set(10, 10**6)), refusals.Truncated)
    _refused(run, _resigned(run, data, _set(11, 0), plain[:-1]), refusals.Malformed)
    _refused(run, _resigned(run, data, _set(11, 0), plain + b"\0"), refusals.Malformed)
    _refused(run, _resigned(run, data, _set(13, [["add", float("nan"), 1]])), refusals.NotFinite)
    _refused(run, _resigned(run, data, lambda fields: fields.append(0)), refusals.Malformed)
    _refused(run, _resigned(run, data, lambda fields: fields.reverse()), refusals.WrongVersion)


@pytest.mark.parametrize("coding", ["float32", "bfloat16", "float16", "int8", "sign"])
def test_values_that_are_not_finite_are_refused(make_run: MakeRun, coding: str) -> None:
    run = make_run(coding=coding)
    data = run.seal().data
    ones = b"\xff" * run.session.codec.nbytes(100)
    if coding in ("int8", "sign"):  # only a scale can be infinite there
        ones = b"\x80\x7f" * run.session.codec.blocks(100) + bytes(run.session.codec.nbytes(100) - 4)  # type: ignore[attr-defined]
    _refused(run, _resigned(run, data, _set(11, 0), ones), refusals.NotFinite)


def test_decompression_bombs(make_run: MakeRun) -> None:
    run = make_run()
    data = run.seal().data
    expected = run.session.codec.nbytes(100)

    def frame(plain: bytes, size: int | None) -> bytes:
        parameters = zstandard.ZstdCompressionParameters.from_level(
            3, format=_FORMAT, write_content_size=size is not None, write_checksum=False, write_dict_id=False
        )
        return zstandard.ZstdCompressor(compression_params=parameters).compress(plain)

    compressed = _set(11, 1)
    _refused(run, _resigned(run, data, compressed, frame(bytes(1 << 24), 0)), refusals.Bomb)
    _refused(run, _resigned(run, data, compressed, frame(bytes(1 << 24), None)), refusals.Bomb)
    honest = frame(bytes(expected), 0)
    assert np.array_equal(
        open_envelope(_resigned(run, data, compressed, honest), run.expectation()).values, np.zeros(100)
    )
    # A frame that announces the right size and holds more: the size is one byte pair in a frame's head.
    lie = honest[:1] + frame(bytes(expected + 50_000), 0)[1:]
    _refused(run, _resigned(run, data, compressed, lie), refusals.Bomb)
    _refused(run, _resigned(run, data, compressed, honest + b"more"), refusals.Malformed)
    _refused(run, _resigned(run, data, compressed, honest[:-1]), refusals.Malformed)


def test_indices_of_a_hostile_sender(make_run: MakeRun) -> None:
    run = make_run("topk", "int8")
    data = run.seal().data
    values = run.session.codec.encode(np.ones(100, dtype=np.float32))

    def with_indices(code: bytes) -> bytes:
        def change(fields: list) -> None:
            fields[10], fields[11] = len(code), 0

        return _resigned(run, data, change, code + values)

    fine = np.arange(0, 2000, 20)
    assert (
        open_envelope(with_indices(encode_indices(fine, 2000)), run.expectation()).indices.tolist()
        == fine.tolist()
    )
    _refused(run, with_indices(encode_indices(fine + 20, 2020)), refusals.BadIndices)  # 2000 is out of range
    _refused(run, with_indices(encode_indices(fine[:-1], 2000)), refusals.BadIndices)
    _refused(run, with_indices(encode_indices(fine, 2000) + b"\0"), refusals.BadIndices)
    _refused(run, with_indices(b""), refusals.BadIndices)


def test_forwarded_rounds_may_come_late_but_once(make_run: MakeRun) -> None:
    run = make_run()
    data = run.seal(round=3).data
    waiting = Expectation(run.session, run.dids, {run.dids[0]: 5}, missing={run.dids[0]: {3}})
    assert open_envelope(data, waiting).round == 3
    with pytest.raises(refusals.Replayed):
        open_envelope(data, replace(waiting, missing={run.dids[0]: {4}}))


def test_the_run_binds_beyond_its_hint(make_run: MakeRun) -> None:
    run = make_run()
    twin = replace(run.session, run=run.session.run[:4] + b"x" * 12)
    with pytest.raises(refusals.BadSignature):
        open_envelope(run.seal().data, Expectation(twin, run.dids))


@pytest.mark.parametrize(
    ("name", "error"),
    [("run", refusals.WrongRun), ("base", refusals.WrongBase), ("layout", refusals.WrongLayout)],
)
def test_an_honest_agent_of_another_run_base_or_layout_is_told_so(
    make_run: MakeRun, name: str, error: type[refusals.Refusal]
) -> None:
    run = make_run()
    with pytest.raises(error):
        open_envelope(
            run.seal().data, Expectation(replace(run.session, **{name: b"other" * 3 + b"!"}), run.dids)
        )


def test_another_block_size_is_not_misread(make_run: MakeRun) -> None:
    run = make_run(coding="int8")
    session = replace(run.session, codec=build_codec("int8", 32))
    with pytest.raises(refusals.Refusal):
        open_envelope(run.seal().data, Expectation(session, run.dids))


def test_names_are_stable_and_unique() -> None:
    names = [error.name for error in refusals.REFUSALS]
    assert len(set(names)) == len(names)
    assert {"oversized", "truncated", "bomb", "wrong_run", "replayed", "bad_signature", "not_finite"} < set(
        names
    )


def _fuzzed(rng: np.random.Generator, envelopes: list[bytes]) -> bytes:
    """One mutation: flipped bits, cut, grown, spliced, a huge length, fields in another order, or another encoding."""
    data = bytearray(envelopes[int(rng.integers(len(envelopes)))])
    kind = int(rng.integers(8))
    if kind < KINDS:
        damage(data, kind, rng, envelopes)
    elif kind == 4:
        announce_huge(data, int(rng.integers(min(90, len(data) - 8))), rng)
    elif kind == 5:
        start, end = sorted(rng.integers(0, len(data), 2).tolist())
        del data[start:end]
    else:
        length = int.from_bytes(data[:2], "big")
        fields = msgpack.unpackb(bytes(data[2 : 2 + length]))
        if kind == 6:
            one, two = rng.integers(0, len(fields), 2)
            fields[one], fields[two] = fields[two], fields[one]
        header = msgpack.packb(fields, use_single_float=kind == 6)
        if kind == 7:  # the same fields, not in their shortest form: round as 64 bits
            header = header.replace(b"\x03", b"\xcf" + bytes(7) + b"\x03", 1)
        data[: 2 + length] = len(header).to_bytes(2, "big") + header
    return bytes(data)


def test_thousands_of_mutations_none_accepted_none_crashes(make_run: MakeRun) -> None:
    rng = np.random.default_rng(20)
    seen: dict[str, int] = {}
    runs = [make_run("topk", "int8"), make_run("random", "bfloat16"), make_run("dense", "sign", size=300)]
    mutated, many = 0, few_or(12_000)
    for batch in range(many // 500 + 1):
        run = runs[batch % len(runs)]
        envelopes = [run.seal(agent, round).data for agent in (0, 1) for round in (3, 4)]
        for _ in range(500):
            data = _fuzzed(rng, envelopes)
            if data in envelopes:
                continue
            mutated += 1
            with pytest.raises(refusals.Refusal) as caught:
                open_envelope(data, run.expectation())
            seen[caught.value.name] = seen.get(caught.value.name, 0) + 1
    assert mutated >= many and sum(seen.values()) == mutated
    assert {"malformed", "bad_signature", "truncated", "wrong_version", "unknown_sender", "wrong_run"} <= set(
        seen
    )


def test_signed_nonsense_from_a_known_sender_never_crashes(make_run: MakeRun) -> None:
    """Mutations behind the signature: what a hostile member of the run can send."""
    rng = np.random.default_rng(21)
    outcomes: Counter[str] = Counter()
    for selection, coding in (
        ("topk", "int8"),
        ("topk", "float32"),
        ("random", "bfloat16"),
        ("threshold", "sign"),
    ):
        run = make_run(selection, coding)
        data = run.seal().data
        length = int.from_bytes(data[:2], "big")
        for _ in range(few_or(600)):
            payload = bytearray(data[2 + length : -64])
            for _ in range(int(rng.integers(1, 6))):
                payload[int(rng.integers(len(payload)))] = int(rng.integers(256))
            cut = int(rng.integers(len(payload))) if rng.random() < 0.2 else len(payload)
            mutant = _resigned(run, data, _keep, bytes(payload[:cut]))
            try:
                update = open_envelope(mutant, run.expectation())
            except refusals.Refusal:
                outcomes["refused"] += 1
                continue
            outcomes["opened"] += 1
            assert np.isfinite(update.values).all() and update.indices[-1] < 2000
            assert (np.diff(update.indices) > 0).all()
    assert outcomes["refused"] and outcomes["opened"]


@examples(300)
@given(data=st.binary(max_size=400), head=st.integers(0, 100))
def test_any_bytes_are_refused(make_run: MakeRun, data: bytes, head: int) -> None:
    run = make_run()
    for sample in (data, run.seal().data[:head] + data):
        with pytest.raises(refusals.Refusal):
            open_envelope(sample, run.expectation())


@examples(200)
@given(
    fields=st.lists(
        st.none()
        | st.booleans()
        | st.integers(-(2**63), 2**64 - 1)
        | st.floats()
        | st.binary(max_size=20)
        | st.text(),
        min_size=12,
        max_size=16,
    )
)
def test_any_signed_header_is_refused(make_run: MakeRun, fields: list) -> None:
    run = make_run()
    header = msgpack.packb([1, *fields])
    body = len(header).to_bytes(2, "big") + header + bytes(50)
    signed = body + load_private_key(run.keys[0]).sign(_signed(run.session, body))
    with pytest.raises(refusals.Refusal):
        open_envelope(signed, run.expectation())
