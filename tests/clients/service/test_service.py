"""What a device answers when it is asked twice."""

from __future__ import annotations

from pathlib import Path

import pytest
from device import greeting, order

from clients.agents.agent import Agent
from clients.home.home import Home
from clients.protocol.messages import unpack_details
from clients.protocol.report import Report
from clients.service.service import Service
from symphony_fl.config.recipe import load_recipe

RECIPE = load_recipe("smoke", ("agents=2", "rounds=3"))


def test_an_evaluation_that_is_asked_for_again_takes_its_time_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An impatient server's copies wait in line at a slow device, before its next round."""
    done: list[int] = []
    evaluate = Agent.evaluate

    def counted(agent: Agent, round: int) -> Report:
        done.append(round)
        return evaluate(agent, round)

    monkeypatch.setattr(Agent, "evaluate", counted)
    service = Service(0, lambda run: Home(tmp_path), lasting=True)
    service.answer("hello", greeting(RECIPE))

    def asked(round: int) -> dict[str, object]:
        return unpack_details(service.answer("evaluate", order(RECIPE, round, {}, {})))

    first = asked(0)
    assert asked(0) == first and done == [0]
    service.answer("train", order(RECIPE, 1, {}, {}))
    second = asked(1)
    assert asked(1) == second != first and done == [0, 1]
    service.close()
