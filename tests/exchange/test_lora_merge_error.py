"""The cross-term error against products that are written down."""

from __future__ import annotations

import numpy as np
import pytest

from symphony_fl.exchange.flat import Layout
from symphony_fl.exchange.lora_merge_error import lora_merge_error

LAYOUT = Layout(
    names=("q.lora_A.weight", "q.lora_B.weight", "v.lora_A.weight", "v.lora_B.weight"),
    shapes=((2, 5), (4, 2), (3, 6), (7, 3)),
)


def brute_force(adapters: list[np.ndarray]) -> float:
    lost = whole = 0.0
    slices = LAYOUT.slices()
    for layer, shape_a, shape_b in (("q", (2, 5), (4, 2)), ("v", (3, 6), (7, 3))):
        a = [x[slices[f"{layer}.lora_A.weight"]].reshape(shape_a).astype(float) for x in adapters]
        b = [x[slices[f"{layer}.lora_B.weight"]].reshape(shape_b).astype(float) for x in adapters]
        product = np.mean([right @ left for right, left in zip(b, a, strict=True)], axis=0)
        lost += np.sum((product - np.mean(b, axis=0) @ np.mean(a, axis=0)) ** 2)
        whole += np.sum(product**2)
    return float(np.sqrt(lost / whole))


@pytest.mark.parametrize("count", [1, 2, 5])
def test_equals_the_products_written_down(count: int) -> None:
    rng = np.random.default_rng(count)
    adapters = [rng.standard_normal(LAYOUT.size).astype(np.float32) for _ in range(count)]
    assert lora_merge_error(LAYOUT, adapters) == pytest.approx(brute_force(adapters), rel=1e-9, abs=1e-7)


def test_agents_that_share_a_factor_lose_nothing() -> None:
    rng = np.random.default_rng(0)
    adapters = [rng.standard_normal(LAYOUT.size).astype(np.float32) for _ in range(3)]
    for name, part in LAYOUT.slices().items():
        if ".lora_A." in name:
            for adapter in adapters:
                adapter[part] = adapters[0][part]
    assert lora_merge_error(LAYOUT, adapters) == pytest.approx(0.0, abs=1e-7)


def test_nothing_to_say_without_two_factors_and_zero_at_the_start() -> None:
    core = Layout(names=("q.lora_B.core",), shapes=((2, 2),))
    assert lora_merge_error(core, [np.ones(4, np.float32)]) is None
    assert lora_merge_error(LAYOUT, [np.zeros(LAYOUT.size, np.float32)] * 2) == 0.0
