"""Tasks travel between agents of a real Flower run, and their bytes are in the books."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SHARING = (
    "agents=2", "rounds=3", "learner.prompts=16", "learner.steps=2", "tasks.skills=[reverse,sort]",
    "memory=episodic", "memory.capacity=500", "curriculum=learnability", "selfplay=cells", "selfplay.bootstrap=150",
    "selfplay.share=4",
)  # fmt: skip


@pytest.mark.slow
def test_letters_reach_the_neighbour_and_are_counted(
    run: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    result = run("smoke", *SHARING)
    assert (result["status"], result["refused"]) == ("completed", {})
    lines = (tmp_path / "run" / "history.jsonl").read_text().splitlines()
    train: dict[tuple[int, int], dict[str, float]] = {}
    edges: dict[tuple[int, int], float] = defaultdict(float)
    for event in map(json.loads, lines):
        place = (event["round"], event["agent"])
        if event["kind"] == "train":
            train[place] = event["metrics"]
        elif event["kind"] == "bytes":
            edges[place] += event["metrics"].get("bytes/sent", 0)
    assert any("letter_bytes" in metrics for metrics in train.values())
    for place, metrics in train.items():
        assert edges[place] == metrics["envelope_bytes"] + metrics.get("letter_bytes", 0)
    assert any(metrics.get("received/tasks", 0) > 0 for metrics in train.values())
