"""theta_0 of self-play: built once, the same for all agents, another one for another seed or setting."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from clients.agents.agent import Agent
from clients.home.home import Home
from symphony_fl.build.learners import recipe_policy, recipe_start, start_name
from symphony_fl.config.recipe import load_recipe
from symphony_fl.exchange.flat import digest
from symphony_fl.learning.model.adapters import Policy
from symphony_fl.learning.model.base_model import load_base
from symphony_fl.learning.rl.grpo_settings import GRPOSettings
from symphony_fl.learning.selfplay.bootstrap import Bootstrap
from symphony_fl.learning.selfplay.common_start import common_start
from symphony_fl.learning.skills.symbolic import SYMBOLIC

SETTINGS = GRPOSettings(prompts=16, samples=4, learning_rate=3e-3, max_new_tokens=16)
TAUGHT = Bootstrap(SYMBOLIC[:3], steps=2, batch=8, seed=1)
FEW = (
    "agents=3",
    "selfplay.bootstrap=3",
    "selfplay.bootstrap_batch=4",
    "learner.prompts=8",
    "learner.steps=1",
)


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The seeds of all bootstraps that were really done."""
    seeds: list[int] = []
    teach = Bootstrap.teach

    def counted(self: Bootstrap, gradient: object) -> None:
        seeds.append(self.seed)
        teach(self, gradient)  # type: ignore[arg-type]

    monkeypatch.setattr(Bootstrap, "teach", counted)
    yield seeds


def test_it_is_built_once_and_differs_by_all_it_depends_on(tmp_path: Path, built: list[int]) -> None:
    policy = Policy(load_base("tiny"), kind="lora", rank=4, alpha=8.0)
    mine = policy.initial(5) + np.float32(0.01)
    policy.set(mine)
    first = common_start(policy, 0, TAUGHT, SETTINGS, cache=tmp_path)
    assert built == [1] and np.array_equal(policy.get(), mine), "the adapter in the policy is left as it was"
    assert np.array_equal(
        first,
        common_start(policy, 0, TAUGHT, replace(SETTINGS, prompts=4, learning_rate=1.0), cache=tmp_path),
    )
    assert built == [1], "batch and rate of the learner are not the bootstrap's"
    assert not np.array_equal(first, policy.initial(0))
    others = [
        common_start(policy, 1, TAUGHT, SETTINGS, cache=tmp_path),
        common_start(policy, 0, replace(TAUGHT, seed=2), SETTINGS, cache=tmp_path),
        common_start(policy, 0, replace(TAUGHT, batch=6), SETTINGS, cache=tmp_path),
        common_start(policy, 0, replace(TAUGHT, skills=SYMBOLIC[1:3]), SETTINGS, cache=tmp_path),
        common_start(policy, 0, replace(TAUGHT, rate=1e-3), SETTINGS, cache=tmp_path),
    ]
    assert len({other.tobytes() for other in (first, *others)}) == 6
    (tmp_path / "again").mkdir()
    again = common_start(policy, 0, TAUGHT, SETTINGS, cache=tmp_path / "again")
    assert np.array_equal(first, again), "the same bits, whenever this machine builds it"


def test_a_cache_that_holds_something_else_is_refused(tmp_path: Path) -> None:
    policy = Policy(load_base("tiny"), kind="lora", rank=4, alpha=8.0)
    common_start(policy, 0, TAUGHT, SETTINGS, cache=tmp_path)
    (folder,) = tmp_path.glob("start-*/")
    np.save(folder / "adapter.npy", np.full(policy.layout.size, np.nan, dtype=np.float32))
    with pytest.raises(ValueError, match="must be finite float32"):
        common_start(policy, 0, TAUGHT, SETTINGS, cache=tmp_path)


def test_all_agents_begin_with_it_and_build_it_once(
    tmp_path: Path, built: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = load_recipe("default", FEW)
    policy = recipe_policy(recipe)  # before the cache moves: the model is built already
    monkeypatch.setenv("SYMPHONY_CACHE", str(tmp_path / "cache"))
    agents = [Agent(Home(tmp_path / str(n)), n, recipe, "a-run") for n in range(recipe.agents)]
    assert built == [recipe.seed]
    starts = {digest(agent.state.adapter) for agent in agents} | {digest(agent.initial) for agent in agents}
    assert len(starts) == 1 and starts != {digest(policy.initial(recipe.seed))}
    assert {agent.exchange.session.base for agent in agents} != {policy.base.digest}, "envelopes name it"
    assert np.array_equal(agents[0].exchange.start(agents[0].state.adapter), agents[1].initial)
    other = load_recipe("default", [*FEW, "seed=7"])
    assert not np.array_equal(recipe_start(other, policy)[0], agents[0].initial)
    assert built == [recipe.seed, 7] and start_name(other) != start_name(recipe)
    for agent in agents:
        agent.close()


def test_given_tasks_begin_with_the_adapter_that_is_drawn(built: list[int]) -> None:
    for name in ("given_tasks", "gossip", "fedavg", "selfplay_smollm2"):
        assert start_name(load_recipe(name)) == ""
    recipe = load_recipe("given_tasks")
    policy = recipe_policy(recipe)
    start, named = recipe_start(recipe, policy)
    assert np.array_equal(start, policy.initial(recipe.seed)) and named == policy.base.digest and built == []
