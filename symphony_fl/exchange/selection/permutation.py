"""A seeded permutation of 0 .. P-1 that is computed where it is needed and never stored.

A mask common to both ends of an edge must be the same on every device and in every version of numpy, whose
generators' streams may change (NEP 19). So masks come from a keyed permutation made of integer arithmetic alone: a
Feistel network over the smallest power of two that holds P, walked along its cycles until it lands below P (Black and
Rogaway, "Ciphers with Arbitrary Finite Domains", 2002). k entries cost O(k) time and memory, whatever P.
The mask is public; nothing here needs to be hard to predict.
"""

from __future__ import annotations

import hashlib

import numpy as np

_ROUNDS = 6
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def permutation_key(*parts: int) -> np.ndarray:
    """Round keys, uint64 [6], from whole numbers such as (run seed, round); stable across versions."""
    text = "symphony-fl/permutation/" + "/".join(str(int(part)) for part in parts)
    return np.frombuffer(hashlib.sha512(text.encode()).digest(), dtype="<u8")[:_ROUNDS].astype(np.uint64)


def permute(positions: np.ndarray, size: int, key: np.ndarray) -> np.ndarray:
    """The images of positions [k] (int64, each in 0 .. size-1) under the keyed permutation; int64 [k]."""
    if size < 2:
        return positions.astype(np.int64)
    bits = (size - 1).bit_length()
    found = _feistel(positions.astype(np.uint64), bits, key)
    outside = np.flatnonzero(found >= size)
    while outside.size:  # at most half of the domain lies outside, so this halves each time
        found[outside] = _feistel(found[outside], bits, key)
        outside = outside[found[outside] >= size]
    return found.astype(np.int64)


def _feistel(values: np.ndarray, bits: int, key: np.ndarray) -> np.ndarray:
    """Alternating unbalanced Feistel rounds on `bits`-bit numbers: each half is changed by a hash of the other."""
    low_bits = bits // 2
    high_bits = bits - low_bits
    low = values & np.uint64((1 << low_bits) - 1)
    high = values >> np.uint64(low_bits)
    for turn, round_key in enumerate(key):
        if turn % 2 == 0:
            high = high ^ (_mix(low, round_key) >> np.uint64(64 - high_bits))
        elif low_bits:
            low = low ^ (_mix(high, round_key) >> np.uint64(64 - low_bits))
    return (high << np.uint64(low_bits)) | low


def _mix(values: np.ndarray, round_key: np.uint64) -> np.ndarray:
    """The finaliser of SplitMix64 (Steele, Lea and Flood 2014) on key + value; wraps modulo 2^64."""
    mixed = (values + np.uint64(1)) * _GOLDEN + round_key
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
