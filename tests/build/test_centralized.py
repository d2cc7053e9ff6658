"""Who generates what and who hands weights to whom; recipes that have no part for a trainer are refused by name."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from symphony_fl.build.centralized import children, dealt, depth, hands_on, parts_of, rollout_seed, workers
from symphony_fl.build.checks import check_recipe
from symphony_fl.config.recipe import RecipeError, load_recipe


@given(tasks=st.integers(1, 100), parts=st.integers(1, 100), agents=st.integers(1, 12))
def test_every_task_is_dealt_once_whoever_is_there(tasks: int, parts: int, agents: int) -> None:
    found = [task for part in range(parts) for task in dealt(range(tasks), part, parts)]
    assert found == list(range(tasks))
    sizes = [len(dealt(range(tasks), part, parts)) for part in range(parts)]
    assert max(sizes) - min(sizes) <= 1
    given_out = sorted(part for agent in range(agents) for part in parts_of(agent, agents, parts))
    assert given_out == list(range(parts))
    assert agents == 1 or not parts_of(0, agents, parts), "the trainer trains"


def test_chance_differs_by_step_and_part() -> None:
    seeds = {rollout_seed(0, step, part) for step in range(50) for part in range(4)}
    assert len(seeds) == 200 and rollout_seed(0, 1, 0) != rollout_seed(1, 1, 0)


@given(agents=st.integers(2, 40), fanout=st.integers(0, 5), data=st.data())
def test_weights_reach_everyone_who_is_there_once(agents: int, fanout: int, data: st.DataObject) -> None:
    here = {0, *data.draw(st.sets(st.sampled_from(list(workers(agents)))))}
    reached, front, hops = [], [0], 0
    while front:
        below = [child for agent in front for child in children(agent, agents, fanout, here)]
        for agent in front:
            assert agent == 0 or not children(agent, agents, fanout, here) or hands_on(agent, agents, fanout)
        reached += below
        front = [agent for agent in below if agent in here]
        hops += bool(front)
    assert sorted(reached) == list(workers(agents)), "mail waits for those who are not there"
    assert hops <= depth(agents, fanout)
    if len(here) == agents:
        assert hops == depth(agents, fanout)


@pytest.mark.parametrize(
    ("name", "override", "said"),
    [
        ("async1_centralized", "tasks.split=disjoint", "tasks.split = 'disjoint': must be 'all'"),
        ("async1_centralized", "learner.steps=2", "learner.steps = 2: must be 1"),
        ("async1_centralized", "learner=trl", "learner = 'trl': must be 'grpo'"),
        ("async1_centralized", "exchange.selection=topk", "exchange.selection = 'topk': must be 'dense'"),
        ("async1_centralized", "strategy.momentum=0.5", "strategy.momentum = 0.5: must be 0"),
        (
            "async1_centralized",
            "strategy.slack=65",
            "strategy.slack = 65: must be at least 0 and at most 64",
        ),
        (
            "async1_centralized",
            "strategy.parts=2",
            "strategy.parts = 2: must be from the number of workers, 3",
        ),
        (
            "sync_centralized",
            "strategy.lag=1",
            "strategy.lag = 1: must be 0 where there are no workers",
        ),
        ("given_tasks", "agents=1", "agents = 1: must be at least 2, but for strategy 'centralized'"),
    ],
)
def test_what_is_refused(name: str, override: str, said: str) -> None:
    with pytest.raises(RecipeError, match=said.replace("(", r"\(")):
        check_recipe(load_recipe(name, (override,)))
