from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from symphony_fl.exchange.codecs.golomb import golomb_decode, golomb_encode, golomb_length
from symphony_fl.exchange.codecs.indices import IndicesError, decode_indices, encode_indices


@given(st.sets(st.integers(0, 5000), min_size=1, max_size=400))
def test_round_trip(chosen: set[int]) -> None:
    indices = np.array(sorted(chosen), dtype=np.int64)
    data = encode_indices(indices, 5001)
    assert np.array_equal(decode_indices(data, indices.size, 5001), indices)
    if indices[-1] > indices.size:
        with pytest.raises(IndicesError):
            decode_indices(data, indices.size, int(indices[-1]))
    for wrong in (data + b"\0", data[:-1]):
        with pytest.raises(IndicesError):
            decode_indices(wrong, indices.size, 5001)


@given(
    st.lists(st.integers(0, 2**31), min_size=1, max_size=20)
    | st.lists(st.integers(0, 40), min_size=250, max_size=300)
)
def test_golomb_alone(numbers: list[int]) -> None:
    array = np.array(numbers, dtype=np.int64)
    data = golomb_encode(array)
    assert len(data) == golomb_length(array)
    assert np.array_equal(golomb_decode(data, array.size, 2**31), array)


@pytest.mark.parametrize("size", [540_672, 2_000_000])
@pytest.mark.parametrize("density", [0.001, 0.005, 0.01, 0.05])
def test_within_three_percent_of_the_entropy(size: int, density: float) -> None:
    count = int(size * density)
    indices = np.sort(np.random.default_rng(2).choice(size, count, replace=False)).astype(np.int64)
    data = encode_indices(indices, size)
    p = count / size
    entropy = -(p * math.log2(p) + (1 - p) * math.log2(1 - p)) / p
    assert 8 * len(data) / count <= 1.03 * entropy
    assert np.array_equal(decode_indices(data, count, size), indices)


def test_layers_of_different_density_cost_less_than_the_entropy_of_their_mean() -> None:
    rng = np.random.default_rng(3)
    parts = [
        np.flatnonzero(rng.random(20_000) < p) + n * 20_000 for n, p in enumerate((0.001, 0.2, 0.01, 0.002))
    ]
    indices = np.concatenate(parts)
    p = indices.size / 80_000
    entropy = -(p * math.log2(p) + (1 - p) * math.log2(1 - p)) / p
    assert 8 * len(encode_indices(indices, 80_000)) / indices.size < 0.85 * entropy


@given(st.integers(1, 300), st.integers(1, 4), st.binary(max_size=120))
def test_any_bytes_decode_or_are_refused(count: int, kind: int, data: bytes) -> None:
    for sample in (data, bytes([kind - 1]) + data):
        try:
            indices = decode_indices(sample, count, 1000)
        except IndicesError:
            continue
        assert (
            indices.size == count and (np.diff(indices) > 0).all() and 0 <= indices[0] and indices[-1] < 1000
        )


@pytest.mark.parametrize("wrong", [[], [-1, 2], [3, 3], [5, 4], [1, 10]])
def test_wrong_indices_are_not_encoded(wrong: list[int]) -> None:
    with pytest.raises(IndicesError):
        encode_indices(np.array(wrong, dtype=np.int64), 10)
