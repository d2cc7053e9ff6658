"""Rows of four paradigms with two seeds each, from runs written by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
from paper_runs import write_run

from symphony_fl.experiment.paradigms import Planned, plan
from symphony_fl.experiment.rows import Row, run_row

AFTER = {"sync_centralized": 0.8, "given_tasks": 0.78, "async_gossip": 0.7, "isolated": 0.4}


@pytest.fixture(scope="session")
def planned() -> list[Planned]:
    return plan(list(AFTER), [0, 1], "tiny", True)


@pytest.fixture(scope="session")
def runs(planned: list[Planned], tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, int], Path]:
    """(paradigm, seed) -> folder; the second seed ends 0.02 higher."""
    root = tmp_path_factory.mktemp("runs")
    return {
        (item.paradigm, item.seed): write_run(
            root / f"{item.paradigm}-{item.seed}", item, AFTER[item.paradigm] + 0.02 * item.seed
        )
        for item in planned
    }


@pytest.fixture(scope="session")
def rows(planned: list[Planned], runs: dict[tuple[str, int], Path]) -> list[Row]:
    return [run_row(item, runs[item.paradigm, item.seed]) for item in planned]
