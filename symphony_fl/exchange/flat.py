"""Named arrays <-> one flat float32 vector: the only form in which an adapter travels or is merged.

Every agent of a run must flatten alike, so the order is that of the sorted names and the layout has a digest
that each envelope carries (phi of eq. 7, and what eq. 3 and 4 call theta, is one vector).
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

DIGEST_BYTES = 16
"""Bytes kept of a SHA-256: 128 bits, far beyond accidental collision."""


class LayoutError(ValueError):
    """Arrays and layout do not fit each other; the message names the array."""


@dataclass(frozen=True)
class Layout:
    """Which entries of the flat vector belong to which named array.

    Attributes
    ----------
    names : sorted, unique.
    shapes : one per name, in the same order.
    """

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]

    def __post_init__(self) -> None:
        if len(self.names) != len(self.shapes):
            raise LayoutError(f"{len(self.names)} names but {len(self.shapes)} shapes")
        if list(self.names) != sorted(set(self.names)):
            raise LayoutError("names must be sorted and unique")

    @cached_property
    def size(self) -> int:
        """P, the number of entries of the flat vector."""
        return sum(math.prod(shape) for shape in self.shapes)

    @cached_property
    def digest(self) -> bytes:
        """16 bytes that name this layout; equal exactly when names and shapes are."""
        text = json.dumps([list(self.names), [list(shape) for shape in self.shapes]])
        return hashlib.sha256(b"symphony-fl/layout\0" + text.encode()).digest()[:DIGEST_BYTES]

    def slices(self) -> dict[str, slice]:
        """Where each array lies in the flat vector."""
        found: dict[str, slice] = {}
        start = 0
        for name, shape in zip(self.names, self.shapes, strict=True):
            found[name] = slice(start, start + math.prod(shape))
            start += math.prod(shape)
        return found


def flatten(arrays: Mapping[str, np.ndarray]) -> tuple[np.ndarray, Layout]:
    """Lays named floating-point arrays end to end in the order of their sorted names.

    Returns
    -------
    The vector, float32 [P], a fresh copy; and its layout.

    Raises
    ------
    LayoutError
        An array is not of a floating-point type (a silent cast of integers would lose bits).
    """
    names = tuple(sorted(arrays))
    layout = Layout(names, tuple(tuple(arrays[name].shape) for name in names))
    vector = np.empty(layout.size, dtype=np.float32)
    for name, part in layout.slices().items():
        if not np.issubdtype(arrays[name].dtype, np.floating):
            raise LayoutError(f"array {name!r} is {arrays[name].dtype}, expected a floating-point type")
        vector[part] = arrays[name].reshape(-1)
    return vector, layout


def digest(vector: np.ndarray) -> bytes:
    """16 bytes that name the exact bits of a vector [P], taken as little-endian float32 on every machine."""
    return hashlib.sha256(np.ascontiguousarray(vector, dtype="<f4").data).digest()[:DIGEST_BYTES]
