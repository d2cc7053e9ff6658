"""Damage that any signed message must survive: what the fuzz tests of envelopes and letters share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

KINDS = 4
HUGE = (0xC6, 0xDD, 0xDF, 0xCE, 0xDB)
"""First bytes of msgpack's binary, array, map, unsigned and string of 32-bit length."""


def damage(data: bytearray, kind: int, rng: np.random.Generator, others: Sequence[bytes]) -> None:
    """In place: 0 flipped bits, 1 cut, 2 grown, 3 spliced with one of the others."""
    if kind == 0:
        for _ in range(int(rng.integers(1, 4))):
            data[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
    elif kind == 1:
        del data[int(rng.integers(len(data))) :]
    elif kind == 2:
        data += rng.bytes(int(rng.integers(1, 70)))
    else:
        other = others[int(rng.integers(len(others)))]
        cut = int(rng.integers(1, min(len(data), len(other))))
        data[cut:] = other[cut:]


def announce_huge(data: bytearray, place: int, rng: np.random.Generator) -> None:
    """In place: five bytes that announce some four thousand million bytes or entries."""
    data[place : place + 5] = bytes([int(rng.choice(HUGE)), 255, 255, 255, 255])
