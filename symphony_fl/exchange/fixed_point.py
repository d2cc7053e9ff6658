"""Sums that are the same in any order: fixed-point numbers of 64 bits.

Floating-point addition is not associative, so agents that receive the same updates in different orders would end with
different bits. On a grid of 2^-40, addition of int64 is exact and commutes. Agents with the same set of updates have
the same sum, and in error feedback the part kept plus the part sent equals the original exactly.
The grid is 1e-12 fine, and the range of 8e6 is far beyond any adapter.
"""

from __future__ import annotations

import numpy as np

FRACTION_BITS = 40
UNIT = 2.0**-FRACTION_BITS
LIMIT = 2.0**20
"""Larger magnitudes are cut to this: a sum of 8 updates of a million each still fits, honest ones are below 1."""


def to_grid(values: np.ndarray) -> np.ndarray:
    """The nearest grid points of finite values: int64, same shape. Exact for float32 of at least 2^-17 in magnitude."""
    wide = values.astype(np.float64)
    np.clip(wide, -LIMIT, LIMIT, out=wide)
    wide *= 2.0**FRACTION_BITS
    return np.rint(wide, out=wide).astype(np.int64)


def from_grid(units: np.ndarray) -> np.ndarray:
    """The numbers that grid points stand for, rounded once to float32."""
    return (units.astype(np.float64) * UNIT).astype(np.float32)


class Feedback:
    """Error feedback (Seide et al. 2014; Stich et al. 2018, "Sparsified SGD with Memory"): what was not sent is kept.

    residual: int64 [P], on the grid. After any number of rounds, sum of sent + residual = sum of changes, exactly.
    """

    def __init__(self, size: int) -> None:
        self.residual = np.zeros(size, dtype=np.int64)

    def offer(self, change: np.ndarray) -> np.ndarray:
        """Adds a change [P] to what is owed, and gives what is owed now as float32 [P]."""
        return from_grid(self.residual + to_grid(change))

    def sent(self, change: np.ndarray, indices: np.ndarray, decoded: np.ndarray) -> np.ndarray:
        """Keeps change + residual less what left the device; gives that on the grid, int64 [k]."""
        units = to_grid(decoded)
        self.residual += to_grid(change)
        self.residual[indices] -= units
        return units
