"""What is lost where the factors of LoRA are averaged apart: mean(B_i A_i) is not mean(B_i) mean(A_i).

With dB_i = B_i - mean(B) and dA_i alike, the difference is exactly (1/n) sum_i dB_i dA_i, of rank at most n r. Its
norm follows from Gram matrices of n r rows, without ever writing down a product of the weight's size.
The problem: Sun et al., "Improving LoRA in Privacy-preserving Federated Learning", ICLR 2024.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from symphony_fl.exchange.flat import Layout

_A, _B = ".lora_A.", ".lora_B."


def lora_merge_error(layout: Layout, adapters: Sequence[np.ndarray]) -> float | None:
    """|| mean(B_i A_i) - mean(B_i) mean(A_i) || / || mean(B_i A_i) ||, Frobenius, over all layers together.

    Parameters
    ----------
    layout : of the adapters; A [r, in] and B [out, r] are found by peft's names.
    adapters : float32 [P] each, at least one.

    Returns
    -------
    None where the layout has no pair of factors (a frozen A, an r x r core): averages are exact then. 0.0 where all
    products are zero, as at the start of a run.
    """
    slices, shapes = layout.slices(), dict(zip(layout.names, layout.shapes, strict=True))
    pairs = [(name, name.replace(_A, _B)) for name in layout.names if _A in name]
    if not pairs:
        return None
    lost = whole = 0.0
    for name_a, name_b in pairs:
        a = _stack(adapters, slices[name_a], shapes[name_a])
        b = _stack(adapters, slices[name_b], shapes[name_b])
        lost += _square_of_mean_product(b - b.mean(axis=0), a - a.mean(axis=0))
        whole += _square_of_mean_product(b, a)
    return float(np.sqrt(lost / whole)) if whole > 0 else 0.0


def _stack(adapters: Sequence[np.ndarray], part: slice, shape: tuple[int, ...]) -> np.ndarray:
    return np.stack([adapter[part].reshape(shape) for adapter in adapters]).astype(np.float64)


def _square_of_mean_product(b: np.ndarray, a: np.ndarray) -> float:
    """|| (1/n) sum_i B_i A_i ||_F^2 for B [n, out, r] and A [n, r, in]: tr((B^T B)(A A^T)) / n^2, factors stacked."""
    count = a.shape[0]
    wide_b = b.transpose(1, 0, 2).reshape(b.shape[1], -1)  # [out, n r]
    tall_a = a.reshape(-1, a.shape[2])  # [n r, in]
    return float(np.sum((wide_b.T @ wide_b) * (tall_a @ tall_a.T)) / count**2)
