"""Float codings of values: float32 (exact), bfloat16, float16; and what all codings check alike."""

from __future__ import annotations

import numpy as np


class CodingError(ValueError):
    """Values that cannot be coded (not finite, out of range), or bytes that no encoder writes."""


class NotFiniteError(CodingError):
    """NaN or infinity, in values or in the scales of a code."""


class Float32:
    """IEEE 754 binary32: exact."""

    name = "float32"
    bits = 32

    def nbytes(self, count: int) -> int:
        return 4 * count

    def encode(self, values: np.ndarray, rng: np.random.Generator | None = None) -> bytes:
        return _planes(finite(values).view(np.uint32).astype("<u4"))

    def decode(self, data: bytes, count: int) -> np.ndarray:
        return _joined(sized(data, self.nbytes(count)), count, "<u4").astype(np.uint32).view(np.float32)

    def bound(self, values: np.ndarray) -> np.ndarray:
        return np.zeros(values.shape, dtype=np.float32)


class BFloat16:
    """The upper half of float32: 8 bits of exponent, 7 of fraction. Relative error at most 2^-8."""

    name = "bfloat16"
    bits = 16

    def nbytes(self, count: int) -> int:
        return 2 * count

    def encode(self, values: np.ndarray, rng: np.random.Generator | None = None) -> bytes:
        bits = finite(values).view(np.uint32)
        if rng is None:
            rounded = bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
        else:
            rounded = bits + rng.integers(0, 1 << 16, size=bits.size, dtype=np.uint32)
        halves = (rounded >> np.uint32(16)).astype("<u2")
        if np.any((halves & 0x7F80) == 0x7F80):
            raise CodingError("a value is beyond bfloat16's range")
        return _planes(halves)

    def decode(self, data: bytes, count: int) -> np.ndarray:
        halves = _joined(sized(data, self.nbytes(count)), count, "<u2")
        return (halves.astype(np.uint32) << np.uint32(16)).view(np.float32)

    def bound(self, values: np.ndarray) -> np.ndarray:
        error: np.ndarray = np.maximum(np.abs(values) * np.float32(2.0**-8), np.float32(2.0**-134))
        return error


class Float16:
    """IEEE 754 binary16. Relative error at most 2^-11, absolute at most 2^-25 below 2^-14; range 65504."""

    name = "float16"
    bits = 16

    def nbytes(self, count: int) -> int:
        return 2 * count

    def encode(self, values: np.ndarray, rng: np.random.Generator | None = None) -> bytes:
        if np.any(np.abs(finite(values)) > 65504.0):
            raise CodingError("a value is beyond float16's range of 65504")
        return _planes(values.astype("<f2").view("<u2"))

    def decode(self, data: bytes, count: int) -> np.ndarray:
        halves = _joined(sized(data, self.nbytes(count)), count, "<u2")
        return halves.astype(np.uint16).view(np.float16).astype(np.float32)

    def bound(self, values: np.ndarray) -> np.ndarray:
        error: np.ndarray = np.maximum(np.abs(values) * np.float32(2.0**-11), np.float32(2.0**-25))
        return error


def finite(values: np.ndarray) -> np.ndarray:
    """The values, contiguous, once they are known to be float32 [k], k >= 1, and finite; else CodingError."""
    if values.dtype != np.float32 or values.ndim != 1 or values.size == 0:
        raise CodingError(f"values are {values.dtype} {values.shape}, expected float32 [k], k >= 1")
    if not np.isfinite(values).all():
        raise NotFiniteError("a value is not finite")
    return np.ascontiguousarray(values)


def sized(data: bytes, expected: int) -> bytes:
    """The data, once its length is known to be as expected; else CodingError."""
    if len(data) != expected:
        raise CodingError(f"{len(data)} bytes of values, expected {expected}")
    return data


def _planes(words: np.ndarray) -> bytes:
    """All first bytes, then all second bytes, ...: exponents lie together and compress."""
    return np.ascontiguousarray(words.view(np.uint8).reshape(words.size, -1).T).tobytes()


def _joined(data: bytes, count: int, dtype: str) -> np.ndarray:
    planes = np.frombuffer(data, dtype=np.uint8).reshape(-1, count)
    return np.ascontiguousarray(planes.T).reshape(-1).view(dtype)
