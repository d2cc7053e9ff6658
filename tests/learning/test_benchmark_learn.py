"""The benchmark of a GRPO step: complete figures. What they come to is for whoever reads them, not for a test."""

from __future__ import annotations

import json

import pytest

from symphony_fl.benchmarks.learn import run


@pytest.mark.slow
def test_every_figure_is_there_and_they_fit_together() -> None:
    figures = run(steps=2, prompts=8, samples=8, rounds=3, skills=("reverse", "max"))
    assert json.loads(json.dumps(figures)) == figures
    for name in ("grpo", "modules", "trl"):
        learner = figures[name]
        low, high = learner["spread"]
        assert 0 < low <= learner["seconds_per_step"] <= high
        assert 0 < sum(learner["phases"].values()) <= 1.5 * learner["seconds_per_step"]
        assert learner["cpu_ms_per_step"] > 0
    for name in ("grpo", "modules"):
        assert 0 < sum(figures[name]["cpu_ms"].values()) <= 1.5 * figures[name]["cpu_ms_per_step"]
    assert figures["trl"]["cpu_ms"] is None
    assert figures["forward"] == "llama_forward"
    assert figures["grpo"]["tokens_per_step"] == figures["modules"]["tokens_per_step"]
    assert figures["ratio"] == figures["grpo"]["seconds_per_step"] / figures["trl"]["seconds_per_step"]
    assert figures["ratio_to_modules"] > 0
