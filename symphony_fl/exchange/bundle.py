"""Several envelopes for one edge in one message: each with its length before it, 2 to 4 bytes.

A message of its own costs Flower some 600 bytes; where several small updates wait for the same neighbour they travel
together. Every envelope stays as its sender signed it.
"""

from __future__ import annotations

from collections.abc import Sequence

from symphony_fl.exchange.refusals import Malformed, Oversized, Truncated

_CONTINUED = 0x80
_MOST_LENGTH_BYTES = 5


def pack_bundle(envelopes: Sequence[bytes]) -> bytes:
    """The envelopes, one after the other, each after its length in base 128 (low digits first)."""
    parts: list[bytes] = []
    for data in envelopes:
        parts += [_length(len(data)), data]
    return b"".join(parts)


def unpack_bundle(data: bytes, most: int) -> list[bytes]:
    """The envelopes of a bundle, unopened.

    Args:
        data: of a bundle. most: envelopes that may be in it.

    Raises:
        Oversized: more than `most`. Truncated: shorter than announced. Malformed: a length not in its shortest form.
    """
    envelopes: list[bytes] = []
    start = 0
    while start < len(data):
        if len(envelopes) == most:
            raise Oversized(f"more than {most} envelopes in a bundle")
        size, start = _read_length(data, start)
        if size > len(data) - start:
            raise Truncated("a bundle shorter than its envelopes")
        envelopes.append(data[start : start + size])
        start += size
    return envelopes


def _length(size: int) -> bytes:
    digits = bytearray()
    while True:
        size, digit = size >> 7, size & 0x7F
        digits.append(digit | (_CONTINUED if size else 0))
        if not size:
            return bytes(digits)


def _read_length(data: bytes, start: int) -> tuple[int, int]:
    size = 0
    for place in range(_MOST_LENGTH_BYTES):
        if start + place >= len(data):
            raise Truncated("a bundle that ends within a length")
        digit = data[start + place]
        size |= (digit & 0x7F) << (7 * place)
        if not digit & _CONTINUED:
            if digit == 0 and place:
                raise Malformed("a bundle's length is not in its shortest form")
            return size, start + place + 1
    raise Malformed("a bundle's length is too long")
