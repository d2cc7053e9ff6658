"""The k largest magnitudes of a long vector in one streaming pass, with memory for the candidates only.

A sample estimates a magnitude just below the k-th largest; one pass collects what exceeds it (a little more than k
entries), and only those are partitioned. A partition of the whole vector would need a copy of the magnitudes and an
index array of twice its size.
"""

from __future__ import annotations

import numpy as np

_CHUNK = 1 << 14
"""Entries per step of the pass: magnitudes of one chunk stay in the cache."""
_SAMPLE = 1 << 14
"""Most magnitudes in the sample; of a short vector one in 16."""


def largest(values: np.ndarray, count: int) -> np.ndarray:
    """Indices of the `count` largest |values|: int64 [count], ascending; of equal magnitudes the lowest index.

    Parameters
    ----------
    values : float32 [P], finite.
    count : 1 .. P.
    """
    if not 1 <= count <= values.size:
        raise ValueError(f"count={count}: must be 1 .. {values.size}")
    if count == values.size:
        return np.arange(values.size, dtype=np.int64)
    candidates = _candidates(values, count)
    magnitudes = np.abs(values if candidates is None else values[candidates])
    cut = np.partition(magnitudes, magnitudes.size - count)[magnitudes.size - count]
    above = np.flatnonzero(magnitudes > cut)
    equal = np.flatnonzero(magnitudes == cut)[: count - above.size]
    chosen = np.sort(np.concatenate([above, equal]))
    return chosen if candidates is None else candidates[chosen]


def above_threshold(values: np.ndarray, bound: float) -> np.ndarray:
    """Indices of the entries with |value| >= bound: int64, ascending."""
    found: list[np.ndarray] = []
    limit = np.float32(bound)
    for start in range(0, values.size, _CHUNK):
        part = np.flatnonzero(np.abs(values[start : start + _CHUNK]) >= limit)
        if part.size:
            found.append(part + start)
    return np.concatenate(found) if found else np.empty(0, dtype=np.int64)


def _candidates(values: np.ndarray, count: int) -> np.ndarray | None:
    """Indices that surely hold the `count` largest magnitudes, or None where no small such set was found."""
    if values.size < 1 << 13 or count > values.size // 8:
        return None
    # A fixed odd stride, not a random draw: the result is exact either way, only the work depends on the sample.
    stride = max(16, values.size // _SAMPLE) | 1
    sample = np.abs(values[::stride])
    share = count / values.size
    # Four standard deviations more than the expected rank, so that the bound is too low with near certainty.
    rank = int(sample.size * share + 4.0 * np.sqrt(sample.size * share) + 4.0)
    if rank >= sample.size:
        return None
    bound = float(np.partition(sample, sample.size - rank)[sample.size - rank])
    found = above_threshold(values, bound)
    return found if count <= found.size <= values.size // 4 else None
