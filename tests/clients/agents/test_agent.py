"""Two agents on the real embedded model, without Flower: a round computed by hand, exactly-once merging, identity."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from clients.agents.agent import Agent
from clients.home.home import Home
from clients.protocol.report import AgentError
from symphony_fl.config.options import Recipe
from symphony_fl.config.recipe import load_recipe
from symphony_fl.exchange.flat import digest

TWO = ("agents=2", "exchange.codec=float32", "rounds=3")


def _open(folder: Path, number: int, recipe: Recipe) -> Agent:
    """A fresh opening, as every message does it."""
    return Agent(Home(folder / str(number)), number, recipe, "a-run")


def _pair(folder: Path, overrides: Sequence[str] = TWO) -> tuple[Recipe, dict[int, str]]:
    recipe = load_recipe("smoke", overrides)
    return recipe, {number: _open(folder, number, recipe).did for number in range(recipe.agents)}


def test_one_round_of_two_agents_is_what_a_hand_computes(tmp_path: Path) -> None:
    recipe, roster = _pair(tmp_path)
    trained, mail = {}, {}
    for number in (0, 1):
        agent = _open(tmp_path, number, recipe)
        report = agent.train(1)
        (mail[number],) = report.outbox.values()
        trained[number] = agent.state.adapter.copy()
        assert not np.array_equal(trained[number], agent.initial), (
            "nothing was learnt: the test tests nothing"
        )
        assert report.adapter == digest(trained[number]).hex(), "the adapter trained is the one reported"
    for number, other in ((0, 1), (1, 0)):
        agent = _open(tmp_path, number, recipe)
        agent.merge({f"{other}/1/0": mail[other]}, roster)
        # Two agents on a ring: Metropolis-Hastings weights are one half each.
        expected = trained[number] + np.float32(0.5) * (trained[other] - trained[number])
        assert np.array_equal(agent.state.adapter.view(np.uint32), expected.view(np.uint32))


def test_merging_without_learning_reaches_the_true_mean(tmp_path: Path) -> None:
    recipe, roster = _pair(tmp_path, ["agents=3", "rounds=50", "learner.steps=0", "topology=edges",
                                      "topology.edges=[[0,1],[1,2]]", "exchange.codec=int8"])  # fmt: skip
    rng = np.random.default_rng(0)
    starts = []
    for number in range(3):
        agent = _open(tmp_path, number, recipe)
        agent.state.adapter = rng.standard_normal(agent.state.adapter.size).astype(np.float32)
        starts.append(agent.state.adapter.copy())
        agent.home.commit(agent.state)
    for round in range(1, 21):  # the path's second eigenvalue is 2/3: (2/3)^20 = 0.0003 of the start is left
        outboxes = {number: _open(tmp_path, number, recipe).train(round).outbox for number in range(3)}
        for number, neighbours in {0: [1], 1: [0, 2], 2: [1]}.items():
            mail = {f"{other}/{round}/0": outboxes[other]["0"] for other in neighbours}
            _open(tmp_path, number, recipe).merge(mail, roster)
    mean = np.mean(starts, axis=0)
    ends = [_open(tmp_path, number, recipe).state.adapter for number in range(3)]
    # int8 with a shared scale: agreement up to the codec's step, the network's mean up to float32 rounding.
    assert max(np.abs(end - mean).max() for end in ends) < 0.05
    assert np.abs(np.mean(ends, axis=0) - mean).max() < 1e-5


def test_a_message_delivered_twice_is_applied_once(tmp_path: Path) -> None:
    recipe, roster = _pair(tmp_path)
    mail = {"1/1/0": _open(tmp_path, 1, recipe).train(1).outbox["0"]}
    first = _open(tmp_path, 0, recipe)
    first.train(1)
    first.merge(mail, roster)
    again = _open(tmp_path, 0, recipe)
    again.merge(mail, roster)
    assert again.metrics["refused/replayed"] == 1 and again.metrics["merged"] == 0
    assert np.array_equal(again.state.adapter, first.state.adapter)


def test_a_round_asked_for_twice_is_trained_once(tmp_path: Path) -> None:
    recipe, _ = _pair(tmp_path)
    first = _open(tmp_path, 0, recipe).train(1)
    second = _open(tmp_path, 0, recipe).train(1)
    assert (second.outbox, second.adapter, second.averaged) == (first.outbox, first.adapter, first.averaged)
    _open(tmp_path, 0, recipe).train(2)
    late = _open(tmp_path, 0, recipe).train(1)
    assert (late.outbox, late.adapter, late.averaged) == (first.outbox, first.adapter, first.averaged)
    _open(tmp_path, 0, recipe).train(3)
    with pytest.raises(AgentError, match="round 1 was asked for, round 3 is finished, its report is gone"):
        _open(tmp_path, 0, recipe).train(1)


def test_the_first_key_heard_is_kept(tmp_path: Path) -> None:
    """A relay that hands out another key for a neighbour later gets its envelopes refused, not accepted."""
    recipe, roster = _pair(tmp_path)
    impostor = Agent(Home(tmp_path / "impostor"), 1, recipe, "a-run")
    agent = _open(tmp_path, 0, recipe)
    agent.train(1)
    agent.merge({"1/1/0": _open(tmp_path, 1, recipe).train(1).outbox["0"]}, roster)
    agent.merge({"1/2/0": impostor.train(2).outbox["0"]}, roster | {1: impostor.did})
    assert agent.metrics["refused/unknown_sender"] == 1


def test_the_first_roster_is_kept_whether_or_not_mail_comes_with_it(tmp_path: Path) -> None:
    recipe, roster = _pair(tmp_path)
    impostor = Agent(Home(tmp_path / "impostor"), 1, recipe, "a-run")
    _open(tmp_path, 0, recipe).merge({}, roster)
    agent = _open(tmp_path, 0, recipe)
    agent.merge({}, roster | {1: impostor.did})
    assert agent.metrics == {"refused/wrong_peer": 1}
    assert agent.state.roster["1"] == roster[1]


def test_who_is_no_neighbour_is_refused(tmp_path: Path) -> None:
    path = ("agents=3", "topology=edges", "topology.edges=[[0,1],[1,2]]")
    recipe, roster = _pair(tmp_path, path)
    agent = _open(tmp_path, 0, recipe)
    agent.train(1)
    agent.merge({"2/1/0": _open(tmp_path, 2, recipe).train(1).outbox["0"]}, roster)
    assert agent.metrics["refused/unknown_sender"] == 1


def test_an_adapter_from_a_server_must_fit(tmp_path: Path) -> None:
    agent = _open(tmp_path, 0, load_recipe("fedavg", ["agents=2"]))
    for wrong in (np.zeros(3, np.float32), np.full(agent.state.adapter.size, np.nan, np.float32)):
        with pytest.raises(AgentError, match="not finite"):
            agent.adopt(wrong)


def test_a_whole_adapter_leaves_under_fedavg_only(tmp_path: Path) -> None:
    """Whoever runs the SuperLink could ask for it, and would read everything at once."""
    recipe, _ = _pair(tmp_path)
    agent = _open(tmp_path, 0, recipe)
    with pytest.raises(AgentError, match="not exchanged with the server under 'gossip'"):
        agent.give()
    with pytest.raises(AgentError, match="not exchanged with the server under 'gossip'"):
        agent.adopt(agent.state.adapter)
    averaged = _open(tmp_path / "fedavg", 0, load_recipe("fedavg", ["agents=2"]))
    assert np.array_equal(averaged.give(), averaged.state.adapter)


def test_an_update_is_passed_on_to_those_who_lack_it(tmp_path: Path) -> None:
    """Epidemic rule on a line 0 - 1 - 2: agent 1 forwards 0's envelope to 2, unchanged, and 2 opens it."""
    line = ("agents=3", "topology=edges", "topology.edges=[[0,1],[1,2]]", "exchange.rule=epidemic",
            "exchange.codec=sign", "rounds=3")  # fmt: skip
    recipe, roster = _pair(tmp_path, line)
    sealed = _open(tmp_path, 0, recipe).train(1).outbox["0"]
    for number in (1, 2):
        _open(tmp_path, number, recipe).train(1)
    middle = _open(tmp_path, 1, recipe)
    middle.merge({"0/1/0": sealed}, roster)
    assert middle.state.relay == {"1>2": sealed}
    outbox = _open(tmp_path, 1, recipe).train(2).outbox
    assert outbox["1>2"] == sealed and len(outbox) == 2
    far = _open(tmp_path, 2, recipe)
    far.merge({"1/2/1": outbox["1>2"]}, roster)
    assert far.metrics["merged"] == 1
    far.merge({"1/2/1": outbox["1>2"]}, roster)
    assert far.metrics["duplicates"] == 1
