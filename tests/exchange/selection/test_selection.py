from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples import examples
from symphony_fl.exchange.flat import Layout
from symphony_fl.exchange.selection.density import (
    Adaptive,
    DensityError,
    ExponentialDecay,
    LinearDecay,
    density_for_budget,
)
from symphony_fl.exchange.selection.permutation import permutation_key, permute
from symphony_fl.exchange.selection.selection import SELECTIONS, Cyclic, SelectionError, TopK, build_selection
from symphony_fl.exchange.selection.topk import largest


def _layout(*sizes: int) -> Layout:
    return Layout(tuple(f"p{n:02}" for n in range(len(sizes))), tuple((size,) for size in sizes))


@given(st.integers(1, 3000), st.integers(0, 2**40), st.integers(0, 9))
def test_permutation_is_one(size: int, seed: int, round: int) -> None:
    images = permute(np.arange(size), size, permutation_key(seed, round))
    assert np.array_equal(np.sort(images), np.arange(size))


def test_permutation_never_changes() -> None:
    # Both ends of an edge derive masks from it, on any machine and any version: these figures are part of the protocol.
    images = permute(np.arange(8), 1000, permutation_key(42, 1, 5))
    assert images.tolist() == [466, 689, 918, 144, 724, 129, 997, 452]


@given(
    st.sampled_from(sorted(SELECTIONS)),
    st.integers(1, 500),
    st.floats(0.001, 1.0),
    st.integers(0, 50),
    st.booleans(),
)
def test_every_selection_is_ascending_unique_and_of_the_announced_count(
    name: str, size: int, density: float, round: int, per_layer: bool
) -> None:
    layout = _layout(size, 3)
    selection = build_selection(name, layout, density, seed=5, per_layer=per_layer)
    change = np.random.default_rng(round).standard_normal(layout.size).astype(np.float32)
    indices = selection.select(change, round)
    assert indices.dtype == np.int64 and indices.size >= 1
    assert (np.diff(indices) > 0).all() and indices[0] >= 0 and indices[-1] < layout.size
    assert selection.count(round) in (indices.size, None)
    if selection.shared:
        other = build_selection(name, layout, density, seed=5)
        assert np.array_equal(other.indices(round, indices.size), indices)
        assert np.array_equal(other.select(np.zeros_like(change), round), indices)
    else:
        with pytest.raises(SelectionError):
            selection.indices(round, indices.size)


@examples(25)
@given(st.integers(1, 60), st.floats(0.01, 1.0))
def test_cyclic_visits_all_entries_equally_often(size: int, density: float) -> None:
    selection = build_selection("cyclic", _layout(size), density, seed=1)
    counts = np.zeros(size, dtype=int)
    for round in range(2 * size):
        counts[selection.select(np.zeros(size), round)] += 1
    assert counts.max() - counts.min() <= 1


def test_cyclic_with_a_schedule_continues_where_it_stopped() -> None:
    selection = Cyclic(100, LinearDecay(0.3, 0.1, 4), seed=1)
    counts = np.zeros(100, dtype=int)
    for round in range(12):
        counts[selection.select(np.zeros(100), round)] += 1
    assert counts.max() - counts.min() <= 1
    assert np.array_equal(
        Cyclic(100, LinearDecay(0.3, 0.1, 4), seed=1).select(np.zeros(100), 11), selection.indices(11, 10)
    )


def test_random_draws_every_entry_alike_and_nests() -> None:
    selection = build_selection("random", _layout(50), 0.2, seed=9)
    counts = np.zeros(50)
    for round in range(2000):
        counts[selection.select(np.zeros(50), round)] += 1
    assert counts.sum() == 2000 * 10
    # Chi-square with 49 degrees of freedom: above 96 once in 10,000 draws, but these are fixed.
    assert np.square(counts - 400).sum() / (400 * 0.8) < 96
    assert set(selection.indices(3, 5)) < set(selection.indices(3, 20))


@given(st.integers(1, 300), st.data())
def test_topk_against_a_sort(size: int, data: st.DataObject) -> None:
    values = np.array(data.draw(st.lists(st.integers(-4, 4), min_size=size, max_size=size)), dtype=np.float32)
    count = data.draw(st.integers(1, size))
    expected = np.sort(np.argsort(-np.abs(values), kind="stable")[:count])
    assert np.array_equal(largest(values, count), expected)


@examples(15)
@given(st.integers(8_000, 300_000), st.floats(1e-5, 0.2), st.integers(0, 4))
def test_topk_of_long_vectors_against_a_sort(size: int, density: float, shape: int) -> None:
    rng = np.random.default_rng(size)
    values = [
        rng.standard_normal(size),
        rng.standard_cauchy(size),
        np.zeros(size),
        np.sort(rng.standard_normal(size)),
        rng.integers(-2, 3, size),
    ][shape].astype(np.float32)
    count = max(1, int(density * size))
    expected = np.sort(np.argsort(-np.abs(values), kind="stable")[:count])
    assert np.array_equal(largest(values, count), expected)


def test_topk_per_layer_takes_its_share_of_each() -> None:
    layout = _layout(100, 50)
    change = np.concatenate([np.full(100, 9.0), np.linspace(0, 1, 50)]).astype(np.float32)
    per_layer = build_selection("topk", layout, 0.1, per_layer=True).select(change, 0)
    assert per_layer.tolist() == [*range(10), *range(145, 150)]
    assert build_selection("topk", layout, 0.1).select(change, 0).tolist() == list(range(15))


def test_threshold_follows_the_data() -> None:
    change = np.full(1000, 0.1, dtype=np.float32)
    change[[3, 700]] = 5.0
    selection = build_selection("threshold", _layout(1000), 0.05, factor=3.0)
    assert selection.select(change, 0).tolist() == [3, 700]
    assert selection.select(np.zeros(1000, dtype=np.float32), 0).size == 1
    many = build_selection("threshold", _layout(1000), 0.05, factor=0.3)
    assert many.select(change, 0).size == 50


def test_schedules() -> None:
    assert [LinearDecay(1.0, 0.2, 4).at(n) for n in (0, 2, 4, 9)] == pytest.approx([1, 0.6, 0.2, 0.2])
    assert [ExponentialDecay(0.8, 0.5, 0.15).at(n) for n in range(4)] == pytest.approx([0.8, 0.4, 0.2, 0.15])


def test_adaptive_density_follows_the_drift_within_its_bounds() -> None:
    density = Adaptive(0.1, low=0.05, high=0.4, target=0.5, gain=1.0)
    density.observe(1.0)
    assert density.at(1) == pytest.approx(0.2)
    density.observe(50.0)
    assert density.at(2) == pytest.approx(0.4)
    for _ in range(5):
        density.observe(0.0)
    assert density.at(7) == pytest.approx(0.05)
    selection = build_selection("random", _layout(100), density)
    assert selection.count(0) is None and selection.select(np.zeros(100), 0).size == 5
    for call in (
        lambda: build_selection("cyclic", _layout(100), density),
        lambda: density.observe(float("nan")),
    ):
        with pytest.raises(ValueError, match="density|drift"):
            call()


@pytest.mark.parametrize("coding", ["sign", "int4", "bfloat16"])
@pytest.mark.parametrize("name", ["topk", "random"])
@pytest.mark.parametrize("budget", [400, 1500, 6000])
def test_a_byte_budget_is_kept_and_used(
    make_run: Callable[..., Any], name: str, coding: str, budget: int
) -> None:
    bits = {"sign": 1, "int4": 4, "bfloat16": 16}[coding] + 16 / 64
    density = density_for_budget(budget, 26_112, bits, shared=name == "random")
    sealed = make_run(name, coding, size=26_112, density=density.at(0)).seal()
    assert 0.65 * budget <= len(sealed.data) <= budget or density.at(0) == 1.0
    with pytest.raises(DensityError, match="budget"):
        density_for_budget(150, 26_112, bits, shared=True)


@pytest.mark.parametrize("density", [0, 0.0, -1, 2, 1.0001, float("nan"), float("inf")])
def test_density_outside_its_range_is_refused(density: float) -> None:
    for name in ("random", "cyclic", "topk", "threshold"):
        with pytest.raises(DensityError, match="above 0 and at most 1"):
            build_selection(name, _layout(10), density)


def test_unknown_name_and_wrong_shape() -> None:
    with pytest.raises(SelectionError, match="topk"):
        build_selection("top", _layout(10), 0.1)
    with pytest.raises(SelectionError, match="shape"):
        TopK(10, LinearDecay(1.0, 0.5, 2)).select(np.zeros(9, dtype=np.float32), 0)
