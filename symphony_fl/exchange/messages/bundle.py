"""Several pieces of mail as one sequence of bytes: each label and each envelope with its length before it.

Every array of its own costs a Flower message some 300 bytes; where several small updates wait for the same neighbour
they travel together at 2 to 4 bytes each. Every envelope stays as its sender signed it.
"""

from __future__ import annotations

from collections.abc import Mapping

from symphony_fl.refusals import Malformed, Oversized, Truncated

_CONTINUED = 0x80
_MOST_LENGTH_BYTES = 5
_MOST_LABEL_BYTES = 1024


def pack_bundle(envelopes: Mapping[str, bytes]) -> bytes:
    """Label, envelope, label, envelope, ...; each after its length in base 128 (low digits first)."""
    parts: list[bytes] = []
    for label, data in envelopes.items():
        named = label.encode()
        parts += [_length(len(named)), named, _length(len(data)), data]
    return b"".join(parts)


def unpack_bundle(data: bytes, most: int) -> dict[str, bytes]:
    """Label -> envelope, unopened, in the order of the bundle.

    Parameters
    ----------
    data : of a bundle.
    most : envelopes that may be in it.

    Raises
    ------
    Oversized
        More than `most`, or a label too long.
    Truncated
        Shorter than announced.
    Malformed
        A length not in its shortest form, a label that is no text or comes twice.
    """
    envelopes: dict[str, bytes] = {}
    start = 0
    while start < len(data):
        if len(envelopes) == most:
            raise Oversized(f"more than {most} envelopes in a bundle")
        named, start = _read_piece(data, start)
        if len(named) > _MOST_LABEL_BYTES:
            raise Oversized(f"a label of {len(named)} bytes in a bundle")
        envelope, start = _read_piece(data, start)
        try:
            label = named.decode()
        except UnicodeDecodeError:
            raise Malformed("a bundle's label is no text") from None
        if label in envelopes:
            raise Malformed("a bundle has the same label twice")
        envelopes[label] = envelope
    return envelopes


def _read_piece(data: bytes, start: int) -> tuple[bytes, int]:
    size, start = _read_length(data, start)
    if size > len(data) - start:
        raise Truncated("a bundle shorter than its pieces")
    return data[start : start + size], start + size


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
