from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from symphony_fl.exchange.codecs.codec import CODECS, build_codec
from symphony_fl.exchange.codecs.floats import CodingError

_VALUES = arrays(
    np.float32,
    st.integers(1, 300),
    elements=st.floats(-65504, 65504, width=32, allow_nan=False, allow_infinity=False),
)
_NAMES = sorted(CODECS)


@given(st.sampled_from(_NAMES), st.integers(1, 80), _VALUES)
def test_error_stays_within_the_stated_bound(name: str, block: int, values: np.ndarray) -> None:
    codec = build_codec(name, block)
    code = codec.encode(values)
    assert len(code) == codec.nbytes(values.size)
    decoded = codec.decode(code, values.size)
    assert decoded.dtype == np.float32 and decoded.shape == values.shape
    assert (np.abs(decoded.astype(np.float64) - values) <= codec.bound(values)).all()
    assert code == codec.encode(values.copy())


@given(st.sampled_from(_NAMES), _VALUES)
def test_coding_never_lengthens_a_vector_much(name: str, values: np.ndarray) -> None:
    """|x - C(x)| <= |x|: what error feedback needs (a contraction, up to the scale's 8 bits)."""
    codec = build_codec(name, 32)
    error = codec.decode(codec.encode(values), values.size).astype(np.float64) - values
    rounding = np.abs(values).max() * 2.0**-8 * np.sqrt(values.size) + 1e-37
    assert np.linalg.norm(error) <= np.linalg.norm(values.astype(np.float64)) * (1 + 2.0**-7) + rounding


@pytest.mark.parametrize("name", ["bfloat16", "int8", "int4"])
def test_stochastic_rounding_has_no_bias(name: str) -> None:
    codec = build_codec(name, 64)
    values = np.random.default_rng(1).standard_normal(64).astype(np.float32)
    draws = [codec.decode(codec.encode(values, np.random.default_rng(n)), 64) for n in range(2000)]
    step = np.maximum(2 * codec.bound(values), 1e-6)
    assert (np.abs(np.mean(draws, axis=0) - values) < 0.06 * step).all()
    one, two = (codec.encode(values, np.random.default_rng(5)) for _ in range(2))
    assert one == two


def test_known_codes() -> None:
    values = np.array([1.0, -0.5, 0.25, 0.0], dtype=np.float32)
    assert build_codec("sign").decode(build_codec("sign").encode(values), 4).tolist() == [
        0.4375,
        -0.4375,
        0.4375,
        0.4375,
    ]
    exact = np.array([127, -1, 0, 64], dtype=np.float32)
    assert build_codec("int8").decode(build_codec("int8").encode(exact), 4).tolist() == exact.tolist()
    levels = np.array([1.5, -1.5, 0.5, -0.5], dtype=np.float32)
    assert build_codec("int2").decode(build_codec("int2").encode(levels), 4).tolist() == levels.tolist()
    assert build_codec("bfloat16").encode(np.array([1.0], dtype=np.float32)).hex() == "803f"


@pytest.mark.parametrize("name", _NAMES)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused(name: str, bad: float) -> None:
    with pytest.raises(CodingError, match="finite"):
        build_codec(name).encode(np.array([1.0, bad], dtype=np.float32))


@pytest.mark.parametrize(("name", "value"), [("float16", 65520.0), ("bfloat16", 3.4e38)])
def test_values_beyond_the_range_are_refused(name: str, value: float) -> None:
    with pytest.raises(CodingError, match="range"):
        build_codec(name).encode(np.array([value], dtype=np.float32))


@given(st.sampled_from(_NAMES), st.integers(1, 40), st.binary(max_size=200))
def test_any_bytes_decode_or_are_refused(name: str, count: int, data: bytes) -> None:
    codec = build_codec(name, 8)
    for sample in (data, (data * 200)[: codec.nbytes(count)]):
        try:
            assert codec.decode(sample, count).shape == (count,)
        except CodingError:
            pass


def test_extremes() -> None:
    for name in _NAMES:
        for scale in (1e-45, 1e-38, 1e-30, 6e4 if name == "float16" else 3e38):
            values = (np.array([1, -1, 0.5, 0, 0.001]) * scale).astype(np.float32)
            codec = build_codec(name)
            decoded = codec.decode(codec.encode(values), 5)
            assert np.isfinite(decoded).all()
            assert (np.abs(decoded.astype(np.float64) - values) <= codec.bound(values) * (1 + 1e-6)).all()


def test_unknown_name_and_block() -> None:
    with pytest.raises(CodingError, match="int8"):
        build_codec("int7")
    with pytest.raises(CodingError, match="block"):
        build_codec("int8", 0)
