"""Several agents behind one simulated SuperNode: the same run as with a node each, in fewer messages."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from in_this_process import play as play_recipe

from symphony_fl.benchmarks.relay import figures, row, still_recipe

Run = Callable[..., dict[str, Any]]


@pytest.mark.slow
def test_agents_that_share_nodes_end_as_those_that_do_not(run: Run) -> None:
    settings = ("agents=5", "learner.steps=1", "exchange.encryption=edge")
    apart = run("smoke", *settings, folder="apart")
    together = run("smoke", *settings, "agents_per_node=2", folder="together")  # 3 nodes, one place to spare
    for name in ("adapter_digests", "accuracy_after", "bytes_sent_per_agent"):
        assert together[name] == apart[name], name
    assert together["refused"] == apart["refused"] == {}


def test_a_row_of_the_benchmark(symphony_home: Path, tmp_path: Path) -> None:
    recipe = still_recipe(4, 2, 3)
    play_recipe(recipe, tmp_path / "run")
    _check_row(figures(recipe, tmp_path / "run"))


@pytest.mark.slow
def test_a_row_of_the_benchmark_through_flower() -> None:
    _check_row(row(4, 2, rounds=1))


def _check_row(found: dict[str, Any]) -> None:
    assert found["agents"] == 4 and found["agents_per_node"] == 2 and found["rounds"] == 1
    assert found["rounds_per_second"] > 0 and found["bytes_sent_per_agent"] > 0
    assert found["seconds_per_agent_round"] * 4 * found["rounds_per_second"] == pytest.approx(1.0)
    assert found["server_peak_bytes"] > 50e6
