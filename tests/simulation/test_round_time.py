"""Simulated seconds of runs in step against sums done by hand, and time to accuracy."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from symphony_fl.cli.main import main
from symphony_fl.config.recipe import load_recipe
from symphony_fl.metrics.history import Event, History
from symphony_fl.simulation.device_profiles import Fleet, Hardware, recipe_fleet
from symphony_fl.simulation.round_time import (
    TimeError,
    Traffic,
    alone,
    barrier_of,
    evaluated_seconds,
    in_turn,
    peers,
    round_ends,
    server,
    time_to_accuracy,
    workers,
)

MB = 1_000_000
# 8 Mbit/s are 1 MB/s. A sample takes 0.1 s at speed 1: 100 samples 10 s, half of it to generate them.
FLEET = Fleet(
    (Hardware(2.0, up=8, down=16), Hardware(1.0, up=8, down=8), Hardware(0.5, up=80, down=80)),
    seconds_per_sample=0.1,
)


def round_of(received: list[int], sent: list[int], agents: tuple[int, ...] = (0, 1, 2)) -> Traffic:
    return Traffic(1, 3, agents, 100, dict(enumerate(received)), dict(enumerate(sent)))


def test_peers_wait_for_the_slowest_agent_and_its_transfers() -> None:
    # agent 0: 2 + 5 + 3 = 10; agent 1: 5 + 10 + 8 = 23; agent 2: 0.1 + 20 + 0.2 = 20.3
    assert peers(FLEET, round_of([4 * MB, 5 * MB, MB], [3 * MB, 8 * MB, 2 * MB]), 100.0) == pytest.approx(
        123.0
    )
    assert peers(FLEET, round_of([0, 0, 0], [0, 0, 0]), 0.0) == pytest.approx(20.0), "the slowest device"
    assert peers(FLEET, round_of([0, 0, 0], [0, 0, 0], agents=(0,)), 0.0) == pytest.approx(5.0), (
        "who took part"
    )


def test_the_servers_link_carries_everybodys_bytes() -> None:
    # The server's link is agent 0's: 9 MB go out in 9 s, 6 MB come in in 3 s; agent 2: 9 + 20 + 3.
    round = round_of([3 * MB, 3 * MB, 3 * MB], [2 * MB, 2 * MB, 2 * MB])
    assert server(FLEET, round, 0.0) == pytest.approx(32.0)
    # Where an agent's own link is slower than the server's, that counts: 4 MB down at 1 MB/s, up at 2 MB/s.
    slow = Fleet((Hardware(2.0, up=80, down=80), Hardware(2.0, up=16, down=8)), seconds_per_sample=0.1)
    assert server(slow, round_of([0, 4 * MB], [0, 4 * MB], agents=(0, 1)), 0.0) == pytest.approx(4 + 5 + 2)


def test_one_server_generates_then_trains() -> None:
    assert alone(FLEET, round_of([9 * MB] * 3, [9 * MB] * 3), 7.0) == pytest.approx(7.0 + 5.0)


def test_trainer_and_workers_work_side_by_side() -> None:
    # trainer: 10 MB at 2 MB/s + 100 samples trained at half of 0.1 s, speed 2 + 4 MB at 1 MB/s = 5 + 2.5 + 4
    # worker 2: 50 samples generated at half of 0.1 s, speed 0.5 = 5 s
    assert workers(FLEET, round_of([10 * MB, 0, 0], [4 * MB, 0, 0]), 0.0) == pytest.approx(11.5)
    assert workers(FLEET, round_of([0, 7 * MB, 0], [0, MB, 0]), 0.0) == pytest.approx(7 + 2.5 + 1)
    assert in_turn(FLEET, round_of([0, 7 * MB, 0], [0, MB, 0]), 0.0) == pytest.approx(10.5 + 2.5)
    assert (
        barrier_of(load_recipe("given_tasks", [])) is peers
        and barrier_of(load_recipe("fedavg", [])) is server
    )


def test_without_lag_the_trainer_waits_for_the_workers(tmp_path: Path) -> None:
    recipe = load_recipe("sync_centralized", ["agents=3"])
    assert recipe.centralized.lag == 0 and barrier_of(recipe) is in_turn
    assert barrier_of(load_recipe("async1_centralized", [])) is workers
    assert barrier_of(load_recipe("sync_centralized", [])) is alone
    history = History(tmp_path / "history.jsonl")
    history.add(Event("evaluate", 1, 0, {"accuracy/mean": 0.5}))
    for agent, received, sent in ((0, 2, 4), (1, 4, 2), (2, 8, 1)):
        history.add(Event("train", 1, agent))
        history.add(Event("bytes", 1, agent, {"bytes/received": received * MB, "bytes/sent": sent * MB}))
    samples = recipe.learner.steps * recipe.learner.prompts * recipe.learner.samples
    fleet = Fleet(FLEET.agents, seconds_per_sample=64 / samples)  # 64 s for the round's samples at speed 1
    # Half of that is to generate, shared by two workers: 16 s at speed 1.
    # worker 1, speed 1, 1 MB/s: 4 + 16 + 2 = 22; worker 2, speed 0.5, 10 MB/s: 0.8 + 32 + 0.1 = 32.9
    # then the trainer, speed 2, 2 MB/s down, 1 MB/s up: 1 + 32 / 2 + 4 = 21
    assert evaluated_seconds(history, recipe, fleet) == pytest.approx({1: 32.9 + 21.0})


def test_rounds_follow_each_other() -> None:
    rounds = [Traffic(number, 1, (0,), 100, {}, {}) for number in (1, 2, 3)]
    assert round_ends(rounds, FLEET, peers) == pytest.approx({0: 0.0, 1: 5.0, 2: 10.0, 3: 15.0})


@pytest.fixture
def history(tmp_path: Path) -> History:
    """Two agents, three rounds, evaluated after rounds 0, 1 and 3."""
    history = History(tmp_path / "history.jsonl")
    for agent in (0, 1):
        for number, accuracy in ((0, 0.3), (1, 0.6), (3, 0.8)):
            history.add(Event("evaluate", number, agent, {"accuracy/mean": accuracy + 0.02 * agent}))
        for number in (1, 2, 3):
            history.add(Event("train", number, agent))
            history.add(Event("bytes", number, agent, {"bytes/sent": 1.0 * MB, "bytes/received": 2.0 * MB}))
    return history


def test_time_to_accuracy_of_a_run(history: History) -> None:
    recipe = load_recipe("gossip", ["agents=2", "topology=full"])
    fleet = Fleet((Hardware(1.0, up=8, down=8), Hardware(0.5, up=8, down=8)))
    # 512 samples take 30 s at speed 1: a round is 2 + 60 + 1 s.
    assert evaluated_seconds(history, recipe, fleet) == pytest.approx({0: 0.0, 1: 63.0, 3: 189.0})
    assert evaluated_seconds(history, recipe, fleet.connected(16)) == pytest.approx({0: 0, 1: 61.5, 3: 184.5})
    assert time_to_accuracy(history, 0.6, recipe, fleet) == pytest.approx(63.0)
    assert time_to_accuracy(history, 0.81, recipe, fleet) == pytest.approx(189.0)
    assert time_to_accuracy(history, 0.82, recipe, fleet) is None
    assert time_to_accuracy(history, 0.3, recipe, fleet) == 0.0


def test_agents_out_of_step_lived_by_their_own_clock(tmp_path: Path) -> None:
    history = History(tmp_path / "history.jsonl")
    for agent, (clock, accuracy) in enumerate([(70.0, 0.5), (90.0, 0.7)]):
        history.add(Event("evaluate", 0, agent, {"accuracy/mean": 0.1}))
        history.add(Event("evaluate", 1, agent, {"accuracy/mean": accuracy, "clock": clock}, own=agent + 1))
    recipe = load_recipe("async_gossip", ["agents=2", "clock.speeds=[1,2]", "clock.bandwidths=[10]"])
    fleet = recipe_fleet(recipe)
    assert evaluated_seconds(history, recipe, fleet) == {0: 0.0, 1: 90.0}
    assert time_to_accuracy(history, 0.6, recipe, fleet.connected(10.0)) == 90.0
    with pytest.raises(TimeError, match="ran on other devices or links"):
        evaluated_seconds(history, recipe, fleet.connected(1.0))


def test_too_few_devices_are_refused(history: History) -> None:
    with pytest.raises(TimeError, match="devices: 1, must be at least one per agent, 2"):
        evaluated_seconds(history, load_recipe("gossip", ["agents=2"]), Fleet((Hardware(),)))


def test_the_command_tells_a_row_per_link_and_refuses_what_holds_no_run(
    history: History, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = load_recipe("gossip", ["agents=2", "topology=full", "clock.speeds=[1,0.5]"])
    (tmp_path / "recipe.json").write_text(recipe.to_json())
    assert main(["timing", str(tmp_path)]) == 2, "it has not come to its end"
    (tmp_path / "result.json").write_text("{}")
    arguments = ["--accuracy", "0.6", "--mbit", "8", "16", "--json", str(tmp_path / "rows.json")]
    assert main(["timing", str(tmp_path), *arguments]) == 0
    # 60 s are a round's here, by the recipe's clock: 2 + 120 + 1, and 1 + 120 + 0.5.
    rows = json.loads((tmp_path / "rows.json").read_text())["rows"]
    assert [(row["mbit"], row["seconds_to_accuracy"]) for row in rows] == [("8", 123.0), ("16", 121.5)]
    assert "121.5" in capsys.readouterr().out
    assert main(["timing", str(tmp_path / "nothing")]) == 2
    assert "holds no run" in capsys.readouterr().err
