"""Agents that learn alone: the lower baseline."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from loopback import real_network

from symphony_fl.build.checks import check_recipe
from symphony_fl.config.recipe import load_recipe
from symphony_fl.metrics.history import History


def test_they_send_nothing_and_differ(play: Callable[..., History], tmp_path: Path) -> None:
    recipe = check_recipe(load_recipe("smoke", ["strategy=isolated", "learner.steps=2"]))
    loop = real_network(recipe, tmp_path / "run")
    history = play(recipe, loop)
    assert sorted(e.agent for e in history.events("train") if e.round == 2) == [0, 1, 2]
    assert set(history.total("bytes/sent").values()) <= {0.0}
    assert not any(name.startswith("bytes/edge") for e in history.events("bytes") for name in e.metrics)
    assert len({e.adapter for e in history.events("evaluate") if e.round == 2}) == 3
