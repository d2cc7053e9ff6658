"""Asynchronous gossip: agents of different speeds, true books, the same numbers twice, also through real `flwr run`."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from symphony_fl.metrics.history import History

Run = Callable[..., dict[str, Any]]
SPEEDS = ("strategy=async_gossip", "rounds=3", "clock.speeds=[rtx4090,rtx3060,m2]", "clock.jitter=0.1")


def test_each_agent_at_its_own_pace_and_everything_booked_once(play: Run, tmp_path: Path) -> None:
    result = play("smoke", *SPEEDS)
    assert (result["status"], result["rounds"], result["refused"]) == ("completed", 3, {})
    own = result["own_rounds"]
    assert sum(own.values()) == 3 * 3 and own["0"] > own["1"] > own["2"] >= 1
    events = [json.loads(line) for line in (tmp_path / "run" / "history.jsonl").read_text().splitlines()]
    trained = [event for event in events if event["kind"] == "train"]
    assert Counter(event["round"] for event in trained) == {1: 3, 2: 3, 3: 3}
    assert sorted((e["agent"], e["own"]) for e in trained) == [
        (agent, round) for agent in range(3) for round in range(1, own[str(agent)] + 1)
    ]
    clock = [event["metrics"]["clock"] for event in trained]
    assert clock == sorted(clock) and clock[-1] == result["clock_seconds"]
    assert {event["agent"] for event in events if event["kind"] == "evaluate" and event["round"] == 3} == {
        0,
        1,
        2,
    }
    assert any(event["metrics"].get("staleness", 0) > 0 for event in events), "nobody was out of step"


@pytest.mark.slow
def test_the_same_recipe_and_seed_give_the_same_adapters(run: Run, play: Run) -> None:
    first, second = run("smoke", *SPEEDS, folder="first"), play("smoke", *SPEEDS, folder="second")
    assert (
        first["adapter_digests"] == second["adapter_digests"]
        and len(set(first["adapter_digests"].values())) == 3
    )
    assert first["clock_seconds"] == second["clock_seconds"]


def _pace(run: Path) -> float:
    """Updates per virtual second of agents 0 to 6."""
    times = History(run / "history.jsonl").own_rounds()
    ends = [end for agent in range(7) for end in times[agent].values()]
    return len(ends) / max(ends)


@pytest.mark.slow
def test_a_slow_agent_costs_the_others_less_than_a_twentieth_of_their_updates(
    run: Run, tmp_path: Path
) -> None:
    """By the virtual clock, until the last of the seven that are not slow has no more to do."""
    cheap = (
        "learner.steps=1",
        "learner.prompts=2",
        "learner.samples=2",
        "tasks.held_out=4",
        "tasks.evaluate_every=50",
    )
    slow = run(
        "async_gossip", *cheap, "agents=8", "rounds=20", f"clock.speeds={[1] * 7 + [0.1]}", folder="slow"
    )
    alone = run("async_gossip", *cheap, "agents=7", "rounds=22", "clock.speeds=[]", folder="alone")
    pace, without = (_pace(tmp_path / name) for name in ("slow", "alone"))
    log = (tmp_path / "slow" / "flower.log").read_text()
    barrier = float(re.findall(r"behind a barrier the computing of as many rounds takes (\d+)", log)[-1])
    in_step = 7 * slow["rounds"] / barrier
    print(slow["own_rounds"], alone["own_rounds"], pace / without, in_step / without)
    assert slow["own_rounds"]["7"] >= 1 and pace >= 0.95 * without
    assert in_step <= 0.11 * without
