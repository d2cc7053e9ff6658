"""What an agent keeps of its updates: smoothness by hand, two rounds at most, nothing where nobody asked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from clients.agents.agent import Agent
from clients.agents.trace import Trace
from clients.home.home import Home
from symphony_fl.config.recipe import load_recipe


def test_smoothness_is_the_cosine_with_the_round_before(tmp_path: Path) -> None:
    trace = Trace(tmp_path, wanted=True)
    assert trace.learnt(1, np.array([3.0, 4.0])) == {}
    assert trace.learnt(2, np.array([4.0, 3.0]))["smoothness"] == pytest.approx(0.96)
    assert trace.learnt(3, np.array([-4.0, -3.0]))["smoothness"] == pytest.approx(-1.0)
    assert Trace(tmp_path, wanted=True).learnt(3, np.array([-4.0, -3.0]))["smoothness"] == pytest.approx(-1.0)
    assert [file.name for file in sorted(tmp_path.glob("trace/*"))] == [
        "update-00002.npy",
        "update-00003.npy",
    ]
    assert trace.learnt(4, np.zeros(2)) == {}, "what did not move has no direction"


def test_an_evaluation_leaves_the_newest_update_and_the_movement(tmp_path: Path) -> None:
    trace = Trace(tmp_path, wanted=True)
    trace.evaluated(0, np.zeros(2))
    assert not list(tmp_path.glob("trace/*")), "nothing was learnt yet"
    trace.learnt(1, np.array([1.0, 2.0]))
    trace.evaluated(1, np.array([5.0, 6.0]))
    kept = load_file(tmp_path / "trace" / "evaluated-00001.safetensors")
    assert kept["update"].tolist() == [1, 2] and kept["movement"].tolist() == [5, 6]


def test_nothing_is_kept_where_nobody_asked(tmp_path: Path) -> None:
    trace = Trace(tmp_path, wanted=False)
    assert trace.learnt(1, np.ones(2)) == {} and trace.learnt(2, np.ones(2)) == {}
    trace.evaluated(2, np.ones(2))
    assert not list(tmp_path.iterdir())


def test_an_agent_traces_its_own_learning_and_is_asked_what_it_never_trained_on(tmp_path: Path) -> None:
    overrides = ["tracking.trace=true", "tasks.skills=[reverse,sort,max]", "tasks.unseen=[swap]",
                 "tasks.harder=['max_long:9']"]  # fmt: skip
    agent = Agent(Home(tmp_path), 0, load_recipe("smoke", overrides), "a-run")
    asked = agent.evaluate(0).metrics
    assert {"accuracy/unseen", "accuracy_unseen/swap", "accuracy/harder", "accuracy_level/9"} <= asked.keys()
    assert asked["accuracy/unseen"] == asked["accuracy_unseen/swap"]
    agent.begin()
    assert "smoothness" not in agent.train(1).metrics
    first = agent.state.adapter - agent.initial
    kept = np.load(tmp_path / "trace" / "update-00001.npy", allow_pickle=False)
    assert np.array_equal(kept, first) and np.any(first)
    agent.begin()
    assert -1.0 <= agent.train(2).metrics["smoothness"] <= 1.0
    agent.begin()
    assert "accuracy/unseen" not in agent.evaluate(1).metrics, "only first and last evaluations cost more"
    agent.close()
