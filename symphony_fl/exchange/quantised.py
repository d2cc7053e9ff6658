"""Scaled codings of values: 8, 4, 2 and 1 bits per value and one bfloat16 scale per block of entries."""

from __future__ import annotations

import numpy as np

from symphony_fl.exchange.floats import CodingError, NotFiniteError, finite, sized

BLOCK = 1024
"""Entries that share one scale, unless a codec is built with another block size."""


class _Blocks:
    """What the scaled codecs share: one bfloat16 scale per block, then the codes of all values."""

    def __init__(self, block: int = BLOCK) -> None:
        if block < 1:
            raise CodingError(f"block={block}: must be at least 1")
        self.block = block

    def blocks(self, count: int) -> int:
        return -(-count // self.block)

    def padded(self, values: np.ndarray) -> np.ndarray:
        """float32 [blocks, block], zeros at the end."""
        rows = np.zeros(self.blocks(values.size) * self.block, dtype=np.float32)
        rows[: values.size] = values
        return rows.reshape(-1, self.block)

    def sizes(self, count: int) -> np.ndarray:
        """Values in each block, int64 [blocks]."""
        sizes = np.full(self.blocks(count), self.block, dtype=np.int64)
        sizes[-1] = count - (sizes.size - 1) * self.block
        return sizes

    def scales_from(self, data: bytes, count: int) -> np.ndarray:
        """The scales at the head of a code, float32 [blocks]."""
        halves = np.frombuffer(data, dtype="<u2", count=self.blocks(count))
        if np.any(halves & 0x8000):
            raise CodingError("a scale is negative")
        if np.any((halves & 0x7F80) == 0x7F80):
            raise NotFiniteError("a scale is not finite")
        return (halves.astype(np.uint32) << np.uint32(16)).view(np.float32)

    def spread(self, scales: np.ndarray, count: int) -> np.ndarray:
        """Each value's scale, float32 [count]."""
        return np.repeat(scales, self.block)[:count]


class _MaxScaled(_Blocks):
    """Whole numbers -L .. L times max|x| / L of the block: error at most half a step, `scale / 2`."""

    levels: int

    def quantise(self, values: np.ndarray, rng: np.random.Generator | None) -> tuple[bytes, np.ndarray]:
        """The scales' bytes and the codes, int8 [k]."""
        rows = self.padded(finite(values))
        scales, halves = _round_up(np.abs(rows).max(axis=1) / np.float32(self.levels))
        steps = np.where(scales > 0, scales, np.float32(1))[:, None]
        whole = rows / steps
        whole = np.rint(whole) if rng is None else np.floor(whole + rng.random(whole.shape, dtype=np.float32))
        codes = np.clip(whole, -self.levels, self.levels).astype(np.int8)
        return halves.tobytes(), codes.reshape(-1)[: values.size]

    def bound(self, values: np.ndarray) -> np.ndarray:
        largest = np.abs(self.padded(values)).max(axis=1)
        scales, _ = _round_up(largest / np.float32(self.levels))
        # The last term covers the float32 roundings of the division and of the product; a scale may underflow to 0.
        error = scales * np.float32(0.5) + largest * np.float32(2.0**-22)
        return self.spread(np.where(scales > 0, error, largest), values.size)


class Int8(_MaxScaled):
    """8 bits and a scale per block: |error| <= scale / 2, scale <= 1.008 max|x| / 127 of the block."""

    name = "int8"
    bits = 8
    levels = 127

    def nbytes(self, count: int) -> int:
        return 2 * self.blocks(count) + count

    def encode(self, values: np.ndarray, rng: np.random.Generator | None = None) -> bytes:
        scales, codes = self.quantise(values, rng)
        return scales + codes.tobytes()

    def decode(self, data: bytes, count: int) -> np.ndarray:
        scales = self.scales_from(sized(data, self.nbytes(count)), count)
        codes = np.frombuffer(data, dtype=np.int8, offset=2 * scales.size)
        if np.any(codes == -128):
            raise CodingError("int8: code -128 is not used")
        decoded: np.ndarray = codes.astype(np.float32) * self.spread(scales, count)
        return decoded


class Int4(_MaxScaled):
    """4 bits, two codes in a byte: |error| <= scale / 2, scale <= 1.008 max|x| / 7 of the block."""

    name = "int4"
    bits = 4
    levels = 7

    def nbytes(self, count: int) -> int:
        return 2 * self.blocks(count) + (count + 1) // 2

    def encode(self, values: np.ndarray, rng: np.random.Generator | None = None) -> bytes:
        scales, codes = self.quantise(values, rng)
        nibbles = np.zeros(codes.size + codes.size % 2, dtype=np.uint8)
        nibbles[: codes.size] = codes + 8  # 1 .. 15; 0 only as padding
        return scales + (nibbles[0::2] << 4 | nibbles[1::2]).tobytes()

    def decode(self, data: bytes, count: int) -> np.ndarray:
        scales = self.scales_from(sized(data, self.nbytes(count)), count)
        pairs = np.frombuffer(data, dtype=np.uint8, offset=2 * scales.size)
        nibbles = np.empty(2 * pairs.size, dtype=np.uint8)
        nibbles[0::2], nibbles[1::2] = pairs >> 4, pairs & 15
        if not nibbles[:count].all() or nibbles[count:].any():
            raise CodingError("int4: a code or the padding that no encoder writes")
        decoded: np.ndarray = (nibbles[:count].astype(np.float32) - np.float32(8)) * self.spread(
            scales, count
        )
        return decoded


class Int2(_Blocks):
    """2 bits: -1.5, -0.5, 0.5, 1.5 times a step per block that fits the block by least squares.

    The step starts at 1.248 times the mean magnitude, the best uniform one for a Gaussian, and is then the
    least-squares one for the codes it gave. So decoding is a projection: a block's error is never longer than the block
    itself (up to the scale's rounding), which error feedback needs to converge. |error| <= max(step / 2,
    |x| - 1.5 step) for the first step, plus 1.5 times what the step then moved.
    """

    name = "int2"
    bits = 2

    def nbytes(self, count: int) -> int:
        return 2 * self.blocks(count) + (count + 3) // 4

    def _fit(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """First steps [blocks], final steps [blocks] and codes 0 .. 3, uint8 [blocks, block]."""
        rows = self.padded(finite(values))
        sizes = self.sizes(values.size)
        first = (1.248 * np.abs(rows).sum(axis=1, dtype=np.float64) / sizes).astype(np.float32)
        inner = np.abs(rows) < first[:, None]
        codes = np.where(rows < 0, np.where(inner, 1, 0), np.where(inner, 2, 3)).astype(np.uint8)
        levels = codes.astype(np.float64) - 1.5
        levels.reshape(-1)[values.size :] = 0.0
        final = (rows * levels).sum(axis=1) / np.square(levels).sum(axis=1)
        return first, final.astype(np.float32), codes

    def encode(self, values: np.ndarray, rng: np.random.Generator | None = None) -> bytes:
        _, final, codes = self._fit(values)
        _, halves = _round_nearest(final)
        quads = np.zeros(4 * ((values.size + 3) // 4), dtype=np.uint8)
        quads[: values.size] = codes.reshape(-1)[: values.size]
        packed = quads[0::4] << 6 | quads[1::4] << 4 | quads[2::4] << 2 | quads[3::4]
        return halves.tobytes() + packed.tobytes()

    def decode(self, data: bytes, count: int) -> np.ndarray:
        scales = self.scales_from(sized(data, self.nbytes(count)), count)
        packed = np.frombuffer(data, dtype=np.uint8, offset=2 * scales.size)
        codes = (packed[:, None] >> np.array([6, 4, 2, 0], dtype=np.uint8) & 3).reshape(-1)
        if codes[count:].any():
            raise CodingError("int2: padding that no encoder writes")
        decoded: np.ndarray = (codes[:count].astype(np.float32) - np.float32(1.5)) * self.spread(
            scales, count
        )
        return decoded

    def bound(self, values: np.ndarray) -> np.ndarray:
        first, final, _ = self._fit(values)
        moved = np.float32(1.5) * np.abs(_round_nearest(final)[0] - first)
        step = self.spread(first, values.size)
        outside = np.abs(values) - np.float32(1.5) * step
        error: np.ndarray = np.maximum(step * np.float32(0.5), outside) + self.spread(moved, values.size)
        return error * np.float32(1.0 + 2.0**-20)


class Sign(_Blocks):
    """1 bit: the sign times the block's mean magnitude m (Seide et al. 2014; Karimireddy et al. 2019, "EF-SignSGD").

    m is the least-squares scale, so decoding is a projection as in `Int2`. |error| <= max(m, |x| - m), with m rounded
    to bfloat16. Zero counts as positive: without error feedback the codec is biased and useless.
    """

    name = "sign"
    bits = 1

    def nbytes(self, count: int) -> int:
        return 2 * self.blocks(count) + (count + 7) // 8

    def _means(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        totals = np.abs(self.padded(finite(values))).sum(axis=1, dtype=np.float64)
        return _round_nearest((totals / self.sizes(values.size)).astype(np.float32))

    def encode(self, values: np.ndarray, rng: np.random.Generator | None = None) -> bytes:
        _, halves = self._means(values)
        return halves.tobytes() + np.packbits(values < 0).tobytes()

    def decode(self, data: bytes, count: int) -> np.ndarray:
        scales = self.scales_from(sized(data, self.nbytes(count)), count)
        bits = np.unpackbits(np.frombuffer(data, dtype=np.uint8, offset=2 * scales.size))
        if bits[count:].any():
            raise CodingError("sign: padding that no encoder writes")
        magnitudes = self.spread(scales, count)
        return np.where(bits[:count] == 1, -magnitudes, magnitudes)

    def bound(self, values: np.ndarray) -> np.ndarray:
        means = self.spread(self._means(values)[0], values.size)
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
