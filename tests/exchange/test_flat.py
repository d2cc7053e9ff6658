from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from symphony_fl.exchange.flat import Layout, LayoutError, digest, flatten


@given(st.dictionaries(st.text(min_size=1, max_size=8), st.lists(st.integers(0, 4), max_size=3), max_size=5))
def test_the_layout_finds_every_array_in_the_vector(shapes: dict[str, list[int]]) -> None:
    rng = np.random.default_rng(0)
    arrays = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    vector, layout = flatten(arrays)
    assert layout.names == tuple(sorted(arrays))
    for name, shape, part in zip(layout.names, layout.shapes, layout.slices().values(), strict=True):
        assert np.array_equal(vector[part].reshape(shape), arrays[name])


def test_order_is_that_of_sorted_names() -> None:
    vector, layout = flatten({"b": np.array([3.0, 4.0]), "a": np.array([[1.0], [2.0]])})
    assert vector.tolist() == [1, 2, 3, 4]
    assert layout.slices() == {"a": slice(0, 2), "b": slice(2, 4)}


def test_layout_digest_names_names_and_shapes() -> None:
    one = Layout(("a", "b"), ((2, 3), (4,)))
    assert len(one.digest) == 16
    assert one.digest == Layout(("a", "b"), ((2, 3), (4,))).digest
    assert one.digest != Layout(("a", "b"), ((3, 2), (4,))).digest
    assert one.digest != Layout(("a", "c"), ((2, 3), (4,))).digest


def test_vector_digest_names_the_bits() -> None:
    vector = np.array([1.0, 2.0], dtype=np.float32)
    assert digest(vector) == digest(vector.astype(">f4"))
    assert digest(vector) != digest(np.nextafter(vector, np.float32(9)))


def test_wrong_arrays_are_refused() -> None:
    with pytest.raises(LayoutError, match="int64"):
        flatten({"a": np.arange(3)})
    with pytest.raises(LayoutError, match="sorted"):
        Layout(("b", "a"), ((1,), (1,)))
