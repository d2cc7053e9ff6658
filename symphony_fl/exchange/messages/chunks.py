"""Weights <-> chunks: how a long envelope travels through workers that need not be trusted (SHARDCAST's idea,
Prime Intellect, "INTELLECT-2", arXiv 2505.07291, section 2.2).

    chunk = mark (4 bytes) | body (msgpack) | signature (64 bytes)
    body  = [format, run hint, version of the weights, number, count, piece]

The trainer signs every chunk, so that a worker can check it before forwarding it and no forged chunk spoils a partly
received envelope. An envelope that fits one chunk travels as it is: it has its own signature.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from symphony_fl import refusals
from symphony_fl.exchange.messages.header import HINT_BYTES, ROUND_LIMIT
from symphony_fl.identity.canonical import pack, unpack
from symphony_fl.identity.did_key import load_private_key, public_key_from_did
from symphony_fl.identity.signatures import SIGNATURE_BYTES, known_signer, sender_hint, signed_message

FORMAT = 1
MARK = b"SFTC"
"""What a chunk begins with. As the length of an envelope's header it would be out of range."""
MAX_COUNT = 1 << 16
AROUND = len(MARK) + SIGNATURE_BYTES + 48  # bytes of a chunk beside its piece, at most
INCOMPLETE = 4  # envelopes in the making that are kept; of more, the oldest goes

_DOMAIN = b"symphony-fl/chunk/1\0"


@dataclass(frozen=True)
class Chunk:
    """One of `count` pieces of an envelope; `version` is the envelope's round."""

    version: int
    number: int
    count: int
    piece: bytes


def is_chunk(data: bytes) -> bool:
    """Whether these bytes claim to be a chunk, and so are no envelope."""
    return data.startswith(MARK)


def cut(run: bytes, private_key: bytes, version: int, data: bytes, size: int) -> list[bytes]:
    """An envelope as what travels: itself where it has at most `size` bytes, else signed chunks of that size.

    Raises
    ------
    ValueError
        More chunks than a receiver reads.
    """
    if len(data) <= size:
        return [data]
    count = -(-len(data) // size)
    if count > MAX_COUNT:
        raise ValueError(f"an envelope of {len(data)} bytes in chunks of {size}: at most {MAX_COUNT} chunks")
    key = load_private_key(private_key)
    found = []
    for number in range(count):
        piece = data[number * size : (number + 1) * size]
        body = MARK + pack([FORMAT, run[:HINT_BYTES], version, number, count, piece])
        found.append(body + key.sign(signed_message(_DOMAIN, run, body)))
    return found


def open_chunk(data: bytes, run: bytes, sender: str, size: int) -> Chunk:
    """The piece inside a chunk, once every check has passed.

    Parameters
    ----------
    run : 16-byte digest of the run.
    sender : the trainer's did:key.
    size : of a whole piece, in bytes.

    Raises
    ------
    Refusal
        One of `refusals.CHUNK_REFUSALS`, looked for in that order, whatever the bytes; nothing else.
    """
    if len(data) > size + AROUND:
        raise refusals.Oversized(f"{len(data)} bytes, at most {size + AROUND}")
    if len(data) <= len(MARK) + SIGNATURE_BYTES:
        raise refusals.Truncated(f"{len(data)} bytes")
    if not is_chunk(data):
        raise refusals.Malformed("no chunk: does not begin with the mark")
    hint, chunk = _read(data[len(MARK) : -SIGNATURE_BYTES], size)
    if hint != run[:HINT_BYTES]:
        raise refusals.WrongRun("of another run")
    message = signed_message(_DOMAIN, run, data[:-SIGNATURE_BYTES])
    known_signer([sender], sender_hint(public_key_from_did(sender)), data[-SIGNATURE_BYTES:], message)
    return chunk


class Assembly:
    """Envelopes in the making, by version. What it is given was signed, so it is bounded by their number only."""

    def __init__(self) -> None:
        self._pieces: dict[int, dict[int, Chunk]] = {}

    def add(self, chunk: Chunk) -> bytes | None:
        """The whole envelope once its last piece is there, else None.

        Raises
        ------
        Replayed
            This piece was already received.
        """
        pieces = self._pieces.setdefault(chunk.version, {})
        if chunk.number in pieces:
            raise refusals.Replayed(f"chunk {chunk.number} of version {chunk.version} is not new")
        pieces[chunk.number] = chunk
        if len(pieces) == chunk.count:
            del self._pieces[chunk.version]
            return b"".join(pieces[number].piece for number in sorted(pieces))
        while len(self._pieces) > INCOMPLETE:
            del self._pieces[min(self._pieces)]
        return None

    def forget(self, up_to: int) -> None:
        """Drop versions that are no longer needed."""
        for version in [version for version in self._pieces if version <= up_to]:
            del self._pieces[version]

    def arrays(self) -> dict[str, np.ndarray]:
        """For the home: "<version>/<count>/<number>" -> uint8 piece."""
        return {
            f"{chunk.version}/{chunk.count}/{chunk.number}": np.frombuffer(chunk.piece, np.uint8)
            for pieces in self._pieces.values()
            for chunk in pieces.values()
        }

    def load(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Take back what `arrays` gave."""
        for name, piece in arrays.items():
            version, count, number = map(int, name.split("/"))
            self._pieces.setdefault(version, {})[number] = Chunk(version, number, count, piece.tobytes())


def _read(body: bytes, size: int) -> tuple[bytes, Chunk]:
    """(run hint, chunk) behind canonical bytes."""
    fields = unpack(body, "chunk", FORMAT)
    if [type(field) for field in fields[1:]] != [bytes, int, int, int, bytes]:
        raise refusals.Malformed("chunk: not (format, run, version, number, count, piece)")
    _, run, version, number, count, piece = fields
    if len(run) != HINT_BYTES or not 0 <= version < ROUND_LIMIT or not 0 <= number < count <= MAX_COUNT:
        raise refusals.Malformed(
            f"chunk: version {version}, number {number} or count {count} is out of range"
        )
    if len(piece) != size and (not piece or number + 1 < count):
        raise refusals.Malformed(f"chunk: a piece of {len(piece)} bytes, expected {size}")
    return run, Chunk(version, number, count, piece)
