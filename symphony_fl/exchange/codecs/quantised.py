"""Scaled codings of values: 8, 4, 2 and 1 bits per value and one bfloat16 scale per block of entries.

Layout: the scales of all blocks, then the codes of all values, the first value in the highest bits; padding bits are
zero. A value is its level times its block's scale. Long vectors are coded piece by piece, so that what is in between
stays in the cache and costs no memory.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np

from symphony_fl.exchange.codecs.floats import CodingError, NotFiniteError, finite, sized

BLOCK = 1024
"""Entries that share one scale, unless a codec is built with another block size."""
_PIECE = 1 << 15
"""Entries coded at once, about."""


class _Scaled(ABC):
    """What the scaled codecs share. `block` entries have one scale."""

    name: str
    bits: int

    def __init__(self, block: int = BLOCK) -> None:
        if block < 1:
            raise CodingError(f"block={block}: must be at least 1")
        self.block = block
        # Whole blocks and whole bytes.
        self._piece = 8 * block * max(1, _PIECE // (8 * block))

    def blocks(self, count: int) -> int:
        return -(-count // self.block)

    def nbytes(self, count: int) -> int:
        return 2 * self.blocks(count) + (count * self.bits + 7) // 8

    def encode(self, values: np.ndarray, rng: np.random.Generator | None = None) -> bytes:
        whole = finite(values)
        pieces = [
            self._encode_piece(whole[start : start + self._piece], rng)
            for start in range(0, whole.size, self._piece)
        ]
        return b"".join([scales.tobytes() for scales, _ in pieces] + [codes.tobytes() for _, codes in pieces])

    def decode(self, data: bytes, count: int) -> np.ndarray:
        scales = self._read_scales(sized(data, self.nbytes(count)), count)
        codes = np.frombuffer(data, dtype=np.uint8, offset=2 * scales.size)
        values = np.empty(count, dtype=np.float32)
        for start in range(0, count, self._piece):
            stop = min(start + self._piece, count)
            levels = self._levels(codes[start * self.bits // 8 : (stop * self.bits + 7) // 8], stop - start)
            spread = np.repeat(scales[start // self.block : self.blocks(stop)], self.block)[: stop - start]
            np.multiply(levels, spread, out=values[start:stop])
        return values

    @abstractmethod
    def _encode_piece(
        self, values: np.ndarray, rng: np.random.Generator | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Scales as bfloat16, <u2 [blocks], and packed codes, uint8."""

    @abstractmethod
    def _levels(self, codes: np.ndarray, count: int) -> np.ndarray:
        """The levels behind packed codes, float32 [count]; CodingError for what no encoder writes."""

    def _rows(self, values: np.ndarray) -> np.ndarray:
        """float32 [blocks, block], zeros at the end."""
        rows = np.zeros(self.blocks(values.size) * self.block, dtype=np.float32)
        rows[: values.size] = values
        return rows.reshape(-1, self.block)

    def _sizes(self, count: int) -> np.ndarray:
        """Values in each block, int64 [blocks]."""
        sizes = np.full(self.blocks(count), self.block, dtype=np.int64)
        sizes[-1] = count - (sizes.size - 1) * self.block
        return sizes

    def _spread(self, scales: np.ndarray, count: int) -> np.ndarray:
        return np.repeat(scales, self.block)[:count]

    def _read_scales(self, data: bytes, count: int) -> np.ndarray:
        """The scales at the head of a code, float32 [blocks]."""
        halves = np.frombuffer(data, dtype="<u2", count=self.blocks(count))
        if np.any(halves & 0x8000):
            raise CodingError("a scale is negative")
        if np.any((halves & 0x7F80) == 0x7F80):
            raise NotFiniteError("a scale is not finite")
        return (halves.astype(np.uint32) << np.uint32(16)).view(np.float32)


class _MaxScaled(_Scaled):
    """Whole numbers -L .. L times max|x| / L of the block: error at most half a step, `scale / 2`."""

    levels: int

    def _quantise(self, values: np.ndarray, rng: np.random.Generator | None) -> tuple[np.ndarray, np.ndarray]:
        """Scales, <u2 [blocks], and whole numbers, int8 [k]."""
        rows = self._rows(values)
        scales, halves = _round_up(np.abs(rows).max(axis=1) / np.float32(self.levels))
        rows /= np.where(scales > 0, scales, np.float32(1))[:, None]
        whole = np.rint(rows) if rng is None else np.floor(rows + rng.random(rows.shape, dtype=np.float32))
        numbers = np.clip(whole, -self.levels, self.levels).astype(np.int8)
        return halves, numbers.reshape(-1)[: values.size]

    def bound(self, values: np.ndarray) -> np.ndarray:
        largest = np.abs(self._rows(values)).max(axis=1)
        scales, _ = _round_up(largest / np.float32(self.levels))
        # The last term covers the float32 roundings of the division and of the product; a scale may underflow to 0.
        error = scales * np.float32(0.5) + largest * np.float32(2.0**-22)
        return self._spread(np.where(scales > 0, error, largest), values.size)


class Int8(_MaxScaled):
    """8 bits and a scale per block: |error| <= scale / 2, scale <= 1.008 max|x| / 127 of the block."""

    name = "int8"
    bits = 8
    levels = 127

    def _encode_piece(
        self, values: np.ndarray, rng: np.random.Generator | None
    ) -> tuple[np.ndarray, np.ndarray]:
        scales, numbers = self._quantise(values, rng)
        return scales, numbers.view(np.uint8)

    def _levels(self, codes: np.ndarray, count: int) -> np.ndarray:
        if np.any(codes == 0x80):
            raise CodingError("int8: code -128 is not used")
        return codes.view(np.int8).astype(np.float32)


class Int4(_MaxScaled):
    """4 bits, two codes in a byte: |error| <= scale / 2, scale <= 1.008 max|x| / 7 of the block."""

    name = "int4"
    bits = 4
    levels = 7

    def _encode_piece(
        self, values: np.ndarray, rng: np.random.Generator | None
    ) -> tuple[np.ndarray, np.ndarray]:
        scales, numbers = self._quantise(values, rng)
        nibbles = np.zeros(numbers.size + numbers.size % 2, dtype=np.uint8)
        nibbles[: numbers.size] = numbers + 8  # 1 .. 15; 0 only as padding
        return scales, nibbles[0::2] << 4 | nibbles[1::2]

    def _levels(self, codes: np.ndarray, count: int) -> np.ndarray:
        nibbles = np.empty(2 * codes.size, dtype=np.uint8)
        nibbles[0::2], nibbles[1::2] = codes >> 4, codes & 15
        if not nibbles[:count].all() or nibbles[count:].any():
            raise CodingError("int4: a code or the padding that no encoder writes")
        levels: np.ndarray = nibbles[:count].astype(np.float32) - np.float32(8)
        return levels


class Int2(_Scaled):
    """2 bits: -1.5, -0.5, 0.5, 1.5 times a step per block that fits the block by least squares.

    The step starts at 1.248 times the mean magnitude, the best uniform one for a Gaussian, and is then the
    least-squares one for the codes it gave. So decoding is a projection: a block's error is never longer than the block
    itself (up to the scale's rounding), which error feedback needs to converge. |error| <= max(step / 2,
    |x| - 1.5 step) for the first step, plus 1.5 times what the step then moved.
    """

    name = "int2"
    bits = 2

    def _fit(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """First steps [blocks], final steps [blocks] and codes 0 .. 3, uint8 [k]."""
        rows = self._rows(values)
        means = np.abs(rows).sum(axis=1, dtype=np.float64) / self._sizes(values.size)
        first = (1.248 * means).astype(np.float32)
        inner = np.abs(rows) < first[:, None]
        codes = np.where(rows < 0, np.where(inner, 1, 0), np.where(inner, 2, 3)).astype(np.uint8)
        levels = codes.astype(np.float64) - 1.5
        levels.reshape(-1)[values.size :] = 0.0
        final = (rows * levels).sum(axis=1) / np.square(levels).sum(axis=1)
        return first, final.astype(np.float32), codes.reshape(-1)[: values.size]

    def _encode_piece(
        self, values: np.ndarray, rng: np.random.Generator | None
    ) -> tuple[np.ndarray, np.ndarray]:
        _, final, codes = self._fit(values)
        quads = np.zeros(4 * ((codes.size + 3) // 4), dtype=np.uint8)
        quads[: codes.size] = codes
        return _round_nearest(final)[1], quads[0::4] << 6 | quads[1::4] << 4 | quads[2::4] << 2 | quads[3::4]

    def _levels(self, codes: np.ndarray, count: int) -> np.ndarray:
        quads = (codes[:, None] >> np.array([6, 4, 2, 0], dtype=np.uint8) & 3).reshape(-1)
        if quads[count:].any():
            raise CodingError("int2: padding that no encoder writes")
        levels: np.ndarray = quads[:count].astype(np.float32) - np.float32(1.5)
        return levels

    def bound(self, values: np.ndarray) -> np.ndarray:
        first, final, _ = self._fit(values)
        moved = np.float32(1.5) * np.abs(_round_nearest(final)[0] - first)
        step = self._spread(first, values.size)
        outside = np.abs(values) - np.float32(1.5) * step
        error: np.ndarray = np.maximum(step * np.float32(0.5), outside) + self._spread(moved, values.size)
        return error * np.float32(1.0 + 2.0**-20)


class Sign(_Scaled):
    """1 bit: the sign times the block's mean magnitude m (Seide et al. 2014; Karimireddy et al. 2019, "EF-SignSGD").

    m is the least-squares scale, so decoding is a projection as in `Int2`. |error| <= max(m, |x| - m), with m rounded
    to bfloat16. Zero counts as positive: without error feedback the codec is biased and useless.
    """

    name = "sign"
    bits = 1

    def _means(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        totals = np.abs(self._rows(values)).sum(axis=1, dtype=np.float64)
        return _round_nearest((totals / self._sizes(values.size)).astype(np.float32))

    def _encode_piece(
        self, values: np.ndarray, rng: np.random.Generator | None
    ) -> tuple[np.ndarray, np.ndarray]:
        return self._means(values)[1], np.packbits(values < 0)

    def _levels(self, codes: np.ndarray, count: int) -> np.ndarray:
        bits = np.unpackbits(codes)
        if bits[count:].any():
            raise CodingError("sign: padding that no encoder writes")
        levels: np.ndarray = np.float32(1) - np.float32(2) * bits[:count].astype(np.float32)
        return levels

    def bound(self, values: np.ndarray) -> np.ndarray:
        means = self._spread(self._means(values)[0], values.size)
        error: np.ndarray = np.maximum(means, np.abs(values) - means) * np.float32(1.0 + 2.0**-20)
        return error


def _round_up(scales: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Non-negative float32 rounded up to bfloat16, so that no value exceeds the last level; and its halves, <u2."""
    halves = ((scales.view(np.uint32) + np.uint32(0xFFFF)) >> np.uint32(16)).astype("<u2")
    return (halves.astype(np.uint32) << np.uint32(16)).view(np.float32), halves


def _round_nearest(scales: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Non-negative float32 rounded to the nearest bfloat16 (the largest finite one at most); and its halves, <u2."""
    bits = scales.view(np.uint32)
    halves = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
    halves = np.minimum(halves, np.uint32(0x7F7F)).astype("<u2")
    return (halves.astype(np.uint32) << np.uint32(16)).view(np.float32), halves
