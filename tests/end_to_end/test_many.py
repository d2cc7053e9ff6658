"""Several agents behind one simulated SuperNode: the same run as with a node each, in fewer messages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from symphony_fl.benchmarks.relay import row

Run = Callable[..., dict[str, Any]]


@pytest.mark.slow
def test_agents_that_share_nodes_end_as_those_that_do_not(run: Run) -> None:
    settings = ("agents=5", "learner.steps=1", "exchange.encryption=edge")
    apart = run("smoke", *settings, folder="apart")
    together = run("smoke", *settings, "agents_per_node=2", folder="together")  # 3 nodes, one place to spare
    for name in ("adapter_digests", "accuracy_after", "bytes_sent_per_agent"):
        assert together[name] == apart[name], name
    assert together["refused"] == apart["refused"] == {}


def test_a_row_of_the_benchmark() -> None:
    found = row(4, 2, rounds=1)
    assert found["agents"] == 4 and found["rounds_per_second"] > 0
    assert found["seconds_per_agent_round"] * 4 * found["rounds_per_second"] == pytest.approx(1.0)
    assert found["server_peak_bytes"] > 50e6
