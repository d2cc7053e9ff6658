"""Golomb's code of non-negative whole numbers, a few passes of numpy over them in both directions.

Layout: a byte, 0 for one parameter and 1 for one per block of 256; the parameters' codes, a byte each; one bit stream.
The stream holds the quotients in unary (zeros, then a one), the heads of the remainders as bit planes from the most
significant down, and the last bits of the longer remainders. Zero bits pad it to a whole byte.
A number g under parameter m is quotient g // m and remainder g % m, the latter in truncated binary.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_BLOCK = 256
_SINGLE, _PER_BLOCK = 0, 1
_TABLE = np.unique(np.floor(2.0 ** (np.arange(125) / 4) + 0.5).astype(np.int64))
"""The parameters m, four per octave up to 2^31; a code is a place in this table."""


class CodeError(ValueError):
    """Bytes that the encoder does not write."""


@dataclass(frozen=True)
class _Plan:
    """Parameter codes, uint8 [1] or [blocks], and the exact length of the result in bits."""

    codes: np.ndarray
    bits: int

    @property
    def nbytes(self) -> int:
        return 1 + self.codes.size + (self.bits + 7) // 8


def golomb_length(numbers: np.ndarray) -> int:
    """The length of `golomb_encode(numbers)` in bytes, at a fraction of its cost."""
    return _plan(numbers).nbytes


def golomb_encode(numbers: np.ndarray) -> bytes:
    """Codes int64 [k], k >= 1, each in 0 .. 2^31."""
    plan = _plan(numbers)
    parameters = _spread(plan.codes, numbers.size)
    quotients, values, widths, longer = _split(numbers, parameters)
    ends = np.cumsum(quotients + 1)
    stream = np.zeros(8 * ((plan.bits + 7) // 8), dtype=np.uint8)
    stream[ends - 1] = 1
    start = int(ends[-1])
    heads = np.where(longer, values >> 1, values).astype(np.uint32)
    for plane in range(int(widths.max()) - 1, -1, -1):
        bits = (heads if widths.min() > plane else heads[widths > plane]) >> np.uint32(plane) & np.uint32(1)
        stream[start : start + bits.size] = bits
        start += bits.size
    tails = values[longer] & 1
    stream[start : start + tails.size] = tails
    kind = _SINGLE if plan.codes.size == 1 else _PER_BLOCK
    return bytes([kind]) + plan.codes.tobytes() + np.packbits(stream).tobytes()


def golomb_decode(data: bytes, count: int, limit: int) -> np.ndarray:
    """The inverse: int64 [count], not yet checked against any range but small enough to be summed.

    Parameters
    ----------
    data : at least one byte.
    count : k, at least 1.
    limit : no parameter may exceed twice this, which no encoder of numbers up to `limit` needs.

    Raises
    ------
    CodeError
        Wrong length, unknown parameter, set padding bits.
    """
    blocks = -(-count // _BLOCK)
    if data[0] not in (_SINGLE, _PER_BLOCK) or (data[0] == _PER_BLOCK and blocks == 1):
        raise CodeError("golomb: unknown form")
    heads_at = 1 + (1 if data[0] == _SINGLE else blocks)
    codes = np.frombuffer(data[1:heads_at], dtype=np.uint8)
    if len(data) <= heads_at or codes.size != heads_at - 1 or int(codes.max()) >= _TABLE.size:
        raise CodeError("golomb: too short, or an unknown parameter")
    if int(_TABLE[codes].max()) > 2 * limit:
        raise CodeError("golomb: a parameter beyond the range")
    parameters = _spread(codes, count)
    stream = np.unpackbits(np.frombuffer(data, dtype=np.uint8, offset=heads_at))
    ends = np.flatnonzero(stream)[:count]
    if ends.size < count:
        raise CodeError("golomb: too few quotients")
    quotients = np.diff(ends, prepend=-1) - 1
    values, used = _read_remainders(stream, int(ends[-1]) + 1, parameters)
    if stream.size - used >= 8 or stream[used:].any():
        raise CodeError("golomb: bytes left over")
    numbers: np.ndarray = quotients * parameters + values
    return numbers


def _read_remainders(stream: np.ndarray, start: int, parameters: np.ndarray) -> tuple[np.ndarray, int]:
    """The remainders, int64 [k], and where the stream ends."""
    widths, shorts = _shape(parameters)
    heads = np.zeros(parameters.size, dtype=np.uint32)
    for plane in range(int(widths.max()) - 1, -1, -1):
        if widths.min() > plane:
            bits = _take(stream, start, heads.size)
            heads |= bits.astype(np.uint32) << np.uint32(plane)
        else:
            chosen = np.flatnonzero(widths > plane)
            bits = _take(stream, start, chosen.size)
            heads[chosen] |= bits.astype(np.uint32) << np.uint32(plane)
        start += bits.size
    values = heads.astype(np.int64)
    longer = np.flatnonzero((values >= shorts) & (parameters > 1))
    tails = _take(stream, start, longer.size)
    values[longer] = (values[longer] << 1 | tails) - shorts[longer]
    return values, start + longer.size


def _take(stream: np.ndarray, start: int, count: int) -> np.ndarray:
    if start + count > stream.size:
        raise CodeError("golomb: too short")
    return stream[start : start + count]


def _plan(numbers: np.ndarray) -> _Plan:
    """One parameter for all, or one per block, whichever is shorter."""
    single = _best_codes(np.array([numbers.mean()]))
    plan = _Plan(single, _bits(numbers, _spread(single, numbers.size)))
    if numbers.size > _BLOCK:
        starts = np.arange(0, numbers.size, _BLOCK)
        sizes = np.minimum(_BLOCK, numbers.size - starts)
        codes = _best_codes(np.add.reduceat(numbers, starts) / sizes)
        blocks = _Plan(codes, _bits(numbers, _spread(codes, numbers.size)))
        plan = min(plan, blocks, key=lambda candidate: candidate.nbytes)
    return plan


def _best_codes(means: np.ndarray) -> np.ndarray:
    """For geometric numbers of these means: m = ceil(-log(1 + r) / log r), r = mean / (1 + mean); uint8."""
    ratio = np.maximum(means, 1e-3) / (1.0 + np.maximum(means, 1e-3))
    wanted = np.maximum(1.0, -np.log1p(ratio) / np.log(ratio))
    places = np.searchsorted(_TABLE, wanted)
    below, above = _TABLE[np.maximum(places - 1, 0)], _TABLE[np.minimum(places, _TABLE.size - 1)]
    nearer: np.ndarray = np.where(wanted - below < above - wanted, places - 1, places)
    return nearer.clip(0, _TABLE.size - 1).astype(np.uint8)


def _bits(numbers: np.ndarray, parameters: np.ndarray) -> int:
    quotients, _, widths, longer = _split(numbers, parameters)
    return int(quotients.sum()) + numbers.size + int(widths.sum()) + int(longer.sum())


def _split(
    numbers: np.ndarray, parameters: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Quotients, remainders as truncated binary wants them, widths of the heads, and which have a last bit."""
    quotients, remainders = np.divmod(numbers, parameters)
    widths, shorts = _shape(parameters)
    longer = (remainders >= shorts) & (parameters > 1)
    return quotients, np.where(longer, remainders + shorts, remainders), widths, longer


def _shape(parameters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Per parameter the bits of a head, and the number of remainders that have no last bit."""
    bits = np.ceil(np.log2(parameters)).astype(np.int64)
    return np.maximum(bits - 1, 0), (np.int64(1) << bits) - parameters


def _spread(codes: np.ndarray, count: int) -> np.ndarray:
    """Each number's parameter, int64 [count]."""
    parameters = _TABLE[codes]
    return np.full(count, parameters[0]) if codes.size == 1 else np.repeat(parameters, _BLOCK)[:count]
