"""Memory and the shared reward in an agent's life, on the real embedded model, without Flower."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from clients.agents.agent import Agent
from clients.home.home import Home
from clients.protocol.report import Report
from symphony_fl.config.options import Recipe
from symphony_fl.config.recipe import load_recipe

PAIR = ("agents=2", "rounds=4", "learner.prompts=8", "tasks.skills=[reverse,sort]")
PLAY = (
    "memory=episodic",
    "memory=episodic",
    "memory.capacity=500",
    "curriculum=learnability",
    "selfplay=cells",
    "selfplay.bootstrap=150",
)


def _open(folder: Path, number: int, recipe: Recipe) -> Agent:
    return Agent(Home(folder / str(number)), number, recipe, "a-run")


def _rounds(folder: Path, *overrides: str, rounds: int = 3) -> tuple[np.ndarray, list[Report]]:
    """Agent 0's adapter after some rounds with agent 1's mail; every message opens the homes anew."""
    recipe = load_recipe("smoke", [*PAIR, *overrides])
    roster = {}
    for number in (0, 1):
        agent = _open(folder, number, recipe)
        roster[number] = agent.did
        agent.close()
    reports = []
    for round in range(1, rounds + 1):
        outboxes = {}
        for number in (0, 1):
            agent = _open(folder, number, recipe)
            outboxes[number] = (report := agent.train(round)).outbox
            agent.close()
            reports += [report] if number == 0 else []
        for number in (0, 1):
            agent = _open(folder, number, recipe)
            agent.merge({f"{1 - number}/{round}/0": outboxes[1 - number]["0"]}, roster)
            agent.close()
    return _open(folder, 0, recipe).state.adapter, reports


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    """Agent 0's adapter with neither memory nor shared reward."""
    return _rounds(tmp_path_factory.mktemp("alone"))[0]


def test_the_shared_reward_changes_the_update_by_its_weight_only(tmp_path: Path, alone: np.ndarray) -> None:
    zero, reports = _rounds(tmp_path / "zero", "reward=shared", "reward.use=baseline", "reward.weight=0")
    half, _ = _rounds(tmp_path / "half", "reward=shared", "reward.use=baseline", "reward.weight=0.5")
    assert np.array_equal(alone, zero), "a weight of 0 is the paper's local reward alone, to the bit"
    assert not np.array_equal(zero, half)
    told = reports[2].metrics
    assert 0 <= told["reward_shared/reverse"] <= 1 and 0 <= told["reward_shared/sort"] <= 1
    assert "reward_shared/sort" not in reports[0].metrics, "nothing was heard before the first round"


def test_a_liar_is_cut_off_by_the_honest(tmp_path: Path) -> None:
    """Agent 0 of a ring of four hears 1 and 3: of three values the middle one counts."""
    recipe = load_recipe(
        "smoke", [*PAIR[1:], "agents=4", "tasks.split=all", "reward=shared", "reward.use=baseline"]
    )
    agents = [_open(tmp_path, number, recipe) for number in range(4)]
    roster = {agent.number: agent.did for agent in agents}
    mail = {"1/1/0": agents[1].train(1).outbox["0"]}
    honest = [agents[0].train(1).metrics["reward/reverse"], agents[1].metrics["reward/reverse"]]
    agents[3].train(1)
    agents[3].earned = {"reverse": (1e6, 8), "sort": (-1e6, 8)}
    lie = agents[3].exchange.seal(agents[3].state, 1, agents[3]._tell(1))
    assert agents[0].merge(mail | {"3/1/0": lie.outbox["0"]}, roster) is None
    assert agents[0].metrics["merged"] == 2
    value = agents[0].reward.value(2, "reverse")
    assert value is not None and min(honest) - 1e-6 <= value <= max(honest) + 1e-6


def test_self_play_remembers_and_repeats_a_killed_round(tmp_path: Path) -> None:
    recipe = load_recipe("smoke", [*PAIR, *PLAY])
    agent = _open(tmp_path, 0, recipe)
    first = agent.train(1)
    assert agent.memory is not None and agent.memory.newest() == 1 and len(agent.memory) > 0
    assert 0 < first.metrics["proposals/valid"] <= 1 and first.metrics["difficulty"] >= 1
    agent._improve(2)  # killed between the memory's transaction and the home's commit
    assert agent.memory.newest() == 2
    agent.close()
    agent = _open(tmp_path, 0, recipe)
    assert agent.memory is not None and agent.memory.newest() == 1, "what the home does not know is forgotten"
    killed = agent.train(2).adapter
    agent.close()
    calm = _open(tmp_path / "calm", 0, recipe)
    calm.train(1)
    assert calm.train(2).adapter == killed


def test_replay_and_curriculum_draw_from_memory(tmp_path: Path, alone: np.ndarray) -> None:
    plain, _ = _rounds(tmp_path / "plain", "memory=episodic", "memory.capacity=500")
    replayed, _ = _rounds(tmp_path / "replay", "memory=episodic", "memory.capacity=500", "memory.replay=0.5")
    learnable, _ = _rounds(
        tmp_path / "learnable", "memory=episodic", "memory.capacity=500", "curriculum=learnability"
    )
    assert np.array_equal(plain, alone), "remembering alone changes nothing"
    assert not np.array_equal(plain, replayed) and not np.array_equal(plain, learnable)
