"""Working ahead of the server: only where the strategy allows it, and no further than what is fetched."""

from __future__ import annotations

from pathlib import Path

import pytest
from device import greeting, order
from flwr.app import RecordDict

from clients.home.home import Home
from clients.protocol.messages import OUTBOX, unpack_details, unpack_envelopes
from clients.service.service import Service
from symphony_fl.config.recipe import load_recipe
from symphony_fl.storage.folders import write_atomically

RECIPE = load_recipe("smoke", ("agents=2", "rounds=5"))


def _answer(reply: RecordDict) -> tuple[str, dict[str, bytes]]:
    return unpack_details(reply)["adapter"], unpack_envelopes(reply, OUTBOX)


def test_agents_kept_in_step_do_nothing_between_messages(tmp_path: Path) -> None:
    service = Service(0, lambda run: Home(tmp_path), lasting=True)
    service.answer("hello", greeting(RECIPE))
    service.answer("train", order(RECIPE, 1, {}, {}))
    assert not service.ahead() and service.agent is not None and service.agent.state.round == 1
    service.close()


def test_a_round_worked_ahead_is_answered_from_the_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clients.service.service.rounds_ahead", lambda recipe: 1)
    home = Home(tmp_path / "ahead")
    service = Service(0, lambda run: home, lasting=True)
    service.answer("hello", greeting(RECIPE))
    assert not service.ahead(), "the run has not begun"
    step = Service(0, lambda run: Home(tmp_path / "step"), lasting=True)
    (tmp_path / "step").mkdir()
    write_atomically(tmp_path / "step" / "key", home.key(), mode=0o600)
    step.answer("hello", greeting(RECIPE))
    for round in range(1, RECIPE.rounds + 1):
        answer = _answer(service.answer("train", order(RECIPE, round, {}, {})))
        assert answer == _answer(step.answer("train", order(RECIPE, round, {}, {})))
        assert service.ahead() == (round < RECIPE.rounds)
        assert not service.ahead(), "backpressure: one round is finished and not fetched"
        assert service.agent is not None and service.agent.state.round == min(round + 1, RECIPE.rounds)
    service.close()
    step.close()
