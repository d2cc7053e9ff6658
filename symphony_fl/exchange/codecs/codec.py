"""How a value travels: 32, 16, 8, 4, 2 or 1 bits, with a stated error bound.

Every codec maps k float32 values to exactly `nbytes(k)` bytes and back, whatever the values, so a receiver knows
before it decompresses how much may come. `decode(encode(x))` is what the receiver sees, and the sender keeps that
same vector: rules put the difference into error feedback rather than lose it.
The scaled codecs share one scale per block of entries, stored as bfloat16, which has float32's range.
Value bytes are then compressed by zstandard where that makes them smaller (`envelope.py`).
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from symphony_fl.exchange.codecs.floats import BFloat16, CodingError, Float16, Float32
from symphony_fl.exchange.codecs.quantised import BLOCK, Int2, Int4, Int8, Sign


class Codec(Protocol):
    """A value coding. `name` is its short name, `bits` its width per value without scales."""

    name: str
    bits: int

    def nbytes(self, count: int) -> int:
        """Exact length of the code of `count` values, before zstandard."""
        ...

    def encode(self, values: np.ndarray, rng: np.random.Generator | None = None) -> bytes:
        """Codes float32 [k], k >= 1.

        Parameters
        ----------
        values : finite.
        rng : rounds stochastically (without bias) where the codec can; None rounds to the nearest.

        Raises
        ------
        CodingError
            A value is not finite or beyond the codec's range.
        """
        ...

    def decode(self, data: bytes, count: int) -> np.ndarray:
        """float32 [count]. Raises CodingError for a wrong length or bytes that no encoder writes.

        The values may be not finite if the bytes say so; who receives them must look.
        """
        ...

    def bound(self, values: np.ndarray) -> np.ndarray:
        """An upper bound of |decode(encode(values)) - values| for rounding to the nearest, float32 [k]."""
        ...


CODECS: dict[str, type[Codec]] = {
    "float32": Float32,
    "bfloat16": BFloat16,
    "float16": Float16,
    "int8": Int8,
    "int4": Int4,
    "int2": Int2,
    "sign": Sign,
}
"""Every value coding by its short name."""


def build_codec(name: str, block: int = BLOCK) -> Codec:
    """The codec of a run; `block` is ignored by the codecs that have no scales.

    Raises
    ------
    CodingError
        Unknown name or block below 1.
    """
    if name not in CODECS:
        raise CodingError(f"coding={name!r}: must be one of {', '.join(CODECS)}")
    scaled: dict[str, type[Int8] | type[Int4] | type[Int2] | type[Sign]] = {
        "int8": Int8,
        "int4": Int4,
        "int2": Int2,
        "sign": Sign,
    }
    return scaled[name](block) if name in scaled else CODECS[name]()
