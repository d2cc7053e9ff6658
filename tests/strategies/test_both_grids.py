"""Every strategy gives the same adapters on Flower's own in-memory grid and on ours with forked workers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SMALL = (
    "learner.steps=1", "learner.prompts=4", "learner.samples=4", "tasks.held_out=2", "rounds=2",
    "tracking.agents=false",
)  # fmt: skip
MANY = ("agents=6", "agents_per_node=4")
OUT_OF_STEP = ("clock.speeds=[rtx4090,rtx3060,m2]", "clock.jitter=0.1")
Digests = dict[str, str]


def on_both(runs: Sequence[tuple[str, Sequence[str]]], folder: Path) -> list[tuple[Digests, Digests]]:
    """In a process of its own: forks are for processes that have not learned."""
    support = ROOT / "tests" / "support"
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{support}", "SYMPHONY_HOME": str(folder / "home")}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(support / "both_grids.py"), str(folder)],
        input=json.dumps([(name, [*SMALL, *overrides]) for name, overrides in runs]),
        capture_output=True,
        text=True,
        env=environment,
    )
    assert done.returncode == 0, done.stderr[-5000:]
    return [(flower, ours) for flower, ours in json.loads(done.stdout)]


def check(runs: Sequence[tuple[str, Sequence[str]]], folder: Path) -> None:
    for (name, overrides), (flower, ours) in zip(runs, on_both(runs, folder), strict=True):
        assert flower and flower == ours, (name, overrides)


@pytest.mark.slow
def test_in_step_out_of_step_and_centralized(tmp_path: Path) -> None:
    check(
        [("gossip", MANY), ("async_gossip", OUT_OF_STEP), ("fedavg", ()), ("async2_decentralized", ())],
        tmp_path,
    )


@pytest.mark.slow
def test_all_the_others(tmp_path: Path) -> None:
    runs: list[tuple[str, Sequence[str]]] = [
        ("gossip", ("exchange.encryption=edge",)),
        ("async_gossip", (*OUT_OF_STEP, *MANY)),
        ("selfplay", ("selfplay.bootstrap=2", "learner.prompts=8")),
    ]
    names = ("given_tasks", "choco", "sparta", "hetero", "isolated", "curriculum",
             "sync_centralized", "async1_centralized", "async2_full")  # fmt: skip
    check([*runs, *((name, ()) for name in names)], tmp_path)
