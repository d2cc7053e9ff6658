"""The benchmark of a GRPO step: complete figures, ours no slower than TRL's."""

from __future__ import annotations

import json

import pytest

from symphony_fl.benchmarks.learn import run


@pytest.mark.slow
def test_our_step_costs_at_most_trls() -> None:
    figures = run(steps=2, prompts=8, samples=8, rounds=3, skills=("reverse", "max"))
    assert json.loads(json.dumps(figures)) == figures
    for name in ("grpo", "trl"):
        learner = figures[name]
        low, high = learner["spread"]
        assert 0 < low <= learner["seconds_per_step"] <= high
        assert 0 < sum(learner["phases"].values()) <= 1.5 * learner["seconds_per_step"]
    assert figures["ratio"] == figures["grpo"]["seconds_per_step"] / figures["trl"]["seconds_per_step"]
    assert figures["ratio"] <= 1.0
