"""Update <-> envelope: what one agent tells its neighbours after a round, as signed bytes.

    envelope = length of the header (2 bytes, big-endian) | header (msgpack) | indices | values | signature (64 bytes)

No index bytes where the selection is shared. Values are compressed by zstandard where that is shorter. The Ed25519
signature covers a domain separator, the full digest of the run, and every byte before it: an envelope of another run
cannot be passed off here even where the header's short hints collide.
`open_envelope` looks for each reason to refuse in the order of `refusals.REFUSALS`; nothing is decompressed before the
signature holds, and nothing is allocated from a length that a peer chose.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import zstandard

from symphony_fl import refusals
from symphony_fl.exchange.codecs.codec import Codec
from symphony_fl.exchange.codecs.floats import CodingError, NotFiniteError
from symphony_fl.exchange.codecs.indices import IndicesError, decode_indices, encode_indices
from symphony_fl.exchange.flat import DIGEST_BYTES
from symphony_fl.exchange.messages.header import (
    CODING_CODES,
    HEADER_LIMIT,
    HINT_BYTES,
    KINDS,
    ROUND_LIMIT,
    SELECTION_CODES,
    Header,
    RewardReport,
    check_reports,
    code_of,
    unpack_header,
)
from symphony_fl.exchange.messages.session import LENGTH_BYTES, Expectation, Session, Update
from symphony_fl.exchange.selection.selection import Selection, SelectionError
from symphony_fl.identity.did_key import (
    did_from_public_key,
    load_private_key,
    public_key_of,
)
from symphony_fl.identity.signatures import SIGNATURE_BYTES, known_signer, sender_hint, signed_message

_DOMAIN = b"symphony-fl/envelope/1\0"
_ZSTD_LEVEL = 3
_FORMAT = zstandard.FORMAT_ZSTD1_MAGICLESS


class Sealed(NamedTuple):
    """An envelope, and the update exactly as a receiver will see it (`Rule.record` needs that)."""

    data: bytes
    update: Update


def seal(
    session: Session,
    private_key: bytes,
    *,
    round: int,
    indices: np.ndarray,
    values: np.ndarray,
    adapter: bytes,
    rewards: Sequence[RewardReport] = (),
    rng: np.random.Generator | None = None,
) -> Sealed:
    """Codes, compresses and signs one update.

    Parameters
    ----------
    session : of the run.
    private_key : 32 raw bytes.
    round : of the sender, 0 .. 2^31 - 1.
    indices : int64 [k] as the session's selection gave them for this round.
    values : float32 [k], finite.
    adapter : 16-byte digest of the adapter the values come from.
    rewards : at most 64 reports.
    rng : for stochastic rounding; None rounds to the nearest.

    Raises
    ------
    CodingError, IndicesError
        Values or indices that cannot travel.
    ValueError
        Lengths that do not fit, a round or report out of range.
    """
    if indices.shape != values.shape or not 0 <= round < ROUND_LIMIT or len(adapter) != DIGEST_BYTES:
        raise ValueError(f"indices {indices.shape}, values {values.shape}, round {round}: do not fit")
    shared = session.selection.shared
    index_code = b"" if shared else encode_indices(indices, session.selection.size)
    plain = session.codec.encode(values, rng)
    packed = zstandard.ZstdCompressor(compression_params=_zstd_parameters()).compress(plain)
    compressed = len(packed) < len(plain)
    public_key = public_key_of(private_key)
    reports = check_reports(rewards)
    header = Header(
        run=session.run[:HINT_BYTES],
        sender=sender_hint(public_key),
        round=int(round),
        base=session.base[:HINT_BYTES],
        layout=session.layout[:HINT_BYTES],
        kind=KINDS[session.kind],
        selection=code_of(session.selection.name, SELECTION_CODES),
        coding=code_of(session.codec.name, CODING_CODES),
        count=int(indices.size),
        index_bytes=len(index_code),
        compressed=int(compressed),
        adapter=adapter,
        rewards=reports,
    ).pack()
    body = b"".join(
        [len(header).to_bytes(LENGTH_BYTES, "big"), header, index_code, packed if compressed else plain]
    )
    signature = load_private_key(private_key).sign(_signed(session, body))
    update = Update(
        sender=did_from_public_key(public_key),
        round=int(round),
        kind=session.kind,
        indices=indices,
        values=session.codec.decode(plain, indices.size),
        adapter=adapter,
        rewards=reports,
    )
    return Sealed(body + signature, update)


def open_envelope(data: bytes, expectation: Expectation) -> Update:
    """The update inside an envelope, once every check has passed.

    Raises
    ------
    Refusal
        One of its subclasses in `refusals`, whatever the bytes; nothing else.
    """
    session = expectation.session
    header, payload = _split(data, session.max_bytes)
    if header.run != session.run[:HINT_BYTES]:
        raise refusals.WrongRun("of another run")
    sender = _verified_sender(data, header, expectation)
    _check_round(header.round, sender, expectation)
    if header.base != session.base[:HINT_BYTES]:
        raise refusals.WrongBase("made for another base model")
    if header.layout != session.layout[:HINT_BYTES]:
        raise refusals.WrongLayout("made for another layout")
    _check_terms(header, session)
    indices = _read_indices(header, payload[: header.index_bytes], session.selection)
    values = _read_values(header, payload[header.index_bytes :], session.codec)
    return Update(sender, header.round, session.kind, indices, values, header.adapter, header.rewards)


def _split(data: bytes, max_bytes: int) -> tuple[Header, memoryview]:
    if len(data) > max_bytes:
        raise refusals.Oversized(f"{len(data)} bytes, at most {max_bytes}")
    if len(data) < LENGTH_BYTES + SIGNATURE_BYTES:
        raise refusals.Truncated(f"{len(data)} bytes")
    length = int.from_bytes(data[:LENGTH_BYTES], "big")
    if length > HEADER_LIMIT:
        raise refusals.Oversized(f"a header of {length} bytes")
    start, end = LENGTH_BYTES + length, len(data) - SIGNATURE_BYTES
    if start > end:
        raise refusals.Truncated("shorter than its header")
    header = unpack_header(data[LENGTH_BYTES:start])
    if header.index_bytes > end - start:
        raise refusals.Truncated("shorter than its indices")
    return header, memoryview(data)[start:end]


def _verified_sender(data: bytes, header: Header, expectation: Expectation) -> str:
    """The did of the known sender whose key signed these bytes."""
    message = _signed(expectation.session, data[:-SIGNATURE_BYTES])
    return known_signer(expectation.senders, header.sender, data[-SIGNATURE_BYTES:], message)


def _check_round(round: int, sender: str, expectation: Expectation) -> None:
    if round > expectation.max_round:
        raise refusals.FromTheFuture(f"round {round}, the run is at {expectation.max_round} at most")
    if round <= expectation.newest.get(sender, -1) and round not in expectation.missing.get(sender, ()):
        raise refusals.Replayed(f"round {round} of {sender} is not new")


def _check_terms(header: Header, session: Session) -> None:
    if header.kind != KINDS[session.kind]:
        raise refusals.WrongKind(f"kind {header.kind}, expected {session.kind}")
    selection = session.selection
    if header.selection != code_of(selection.name, SELECTION_CODES):
        raise refusals.WrongSelection(f"selection {header.selection}, expected {selection.name}")
    expected = selection.count(header.round)
    if not 1 <= header.count <= selection.size or (expected is not None and header.count != expected):
        raise refusals.WrongSelection(f"{header.count} entries, expected {expected or selection.size}")
    if header.coding != code_of(session.codec.name, CODING_CODES):
        raise refusals.WrongCoding(f"coding {header.coding}, expected {session.codec.name}")


def _read_indices(header: Header, data: memoryview, selection: Selection) -> np.ndarray:
    if not selection.shared:
        try:
            return decode_indices(bytes(data), header.count, selection.size)
        except IndicesError as error:
            raise refusals.BadIndices(str(error)) from None
    if len(data):
        raise refusals.BadIndices("indices where the selection is shared")
    try:
        return selection.indices(header.round, header.count)
    except SelectionError as error:
        raise refusals.WrongSelection(str(error)) from None


def _read_values(header: Header, data: memoryview, codec: Codec) -> np.ndarray:
    expected = codec.nbytes(header.count)
    plain = _decompress(data, expected) if header.compressed else bytes(data)
    if len(plain) != expected:
        raise refusals.Malformed(f"{len(plain)} bytes of values, expected {expected}")
    try:
        values = codec.decode(plain, header.count)
    except NotFiniteError as error:
        raise refusals.NotFinite(str(error)) from None
    except CodingError as error:
        raise refusals.Malformed(str(error)) from None
    if not np.isfinite(values).all():
        raise refusals.NotFinite("a value is not finite")
    return values


def _decompress(data: memoryview, expected: int) -> bytes:
    """Exactly `expected` bytes; a frame that announces another size is refused before anything is allocated."""
    try:
        announced = zstandard.get_frame_parameters(data, format=_FORMAT).content_size
        if announced != expected:
            raise refusals.Bomb(f"values of {announced} bytes, expected {expected}")
        reader = zstandard.ZstdDecompressor(format=_FORMAT)
        return reader.decompress(data, max_output_size=expected, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise refusals.Malformed(f"zstandard: {str(error)[:80]}") from None


def _zstd_parameters() -> zstandard.ZstdCompressionParameters:
    return zstandard.ZstdCompressionParameters.from_level(
        _ZSTD_LEVEL, format=_FORMAT, write_content_size=True, write_checksum=False, write_dict_id=False
    )


def _signed(session: Session, body: bytes) -> bytes:
    """What is signed.

    The full digest of the run is part of it. Base model and layout are bound by the header's hints: an agent that
    holds others is told so by name, not accused of a bad signature.
    """
    return signed_message(_DOMAIN, session.run, body)
