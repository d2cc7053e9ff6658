"""Combinations of parameters of which the fast tier tries some and `make test-all` all."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import pytest


def combinations(*axes: Sequence[Any]) -> list[Any]:
    """Every combination, for `pytest.mark.parametrize`; one in as many as the longest axis has values is fast.

    Of three axes of equal length these are a Latin square: every two values of different axes meet.
    """
    one_in = max(map(len, axes))
    found = []
    for numbers in product(*(range(len(axis)) for axis in axes)):
        values = [axis[number] for axis, number in zip(axes, numbers, strict=True)]
        marks = () if sum(numbers) % one_in == 0 else pytest.mark.slow
        found.append(pytest.param(*values, marks=marks, id="-".join(map(_name, values))))
    return found


def _name(value: Any) -> str:
    return "-".join(map(_name, value)) if isinstance(value, tuple) else str(value)
