"""A run's row against figures computed by hand from what was written into its folder."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from paper_runs import SENT, write_run

from symphony_fl.experiment.paradigms import plan
from symphony_fl.experiment.rows import Row, _ends, run_row
from symphony_fl.metrics.history import Event, History


def _row(folder: Path, paradigm: str) -> Row:
    (planned,) = plan([paradigm], [3], "tiny", True)
    return run_row(planned, write_run(folder, planned, after=0.85))


def test_gossip_by_hand(tmp_path: Path) -> None:
    row = _row(tmp_path, "given_tasks")  # 2 rounds of 4 agents, 64 completions each, evaluated after each
    found = row["scalars"]
    assert (row["paradigm"], row["seed"], row["evaluated"]) == ("given_tasks", 3, [0, 1, 2, 3])
    assert row["curves"]["accuracy"] == [(0, 0.25), (256, pytest.approx(0.55)), (512, pytest.approx(0.85))]
    assert found["accuracy/mean/before"] == 0.25 and found["accuracy/mean"] == pytest.approx(0.85)
    assert found["accuracy/own"] == pytest.approx(0.9)
    assert found["accuracy/unseen"] == pytest.approx(0.425) and found["accuracy/harder"] == pytest.approx(
        0.2125
    )
    assert found["kilobytes/sent"] == 2 * SENT / 1000 and found["kilobytes/parameters"] == 8 * SENT / 1000
    assert found["accuracy/per_kilobyte"] == pytest.approx(0.6 / 20)
    assert found["reward/per_kilobyte"] == pytest.approx(0.4 / 20)
    assert found["converged"] == pytest.approx(0.95 * 512)
    assert found["worst_drop"] == 0
    assert found["completion/rounds"] == 1
    assert found["completion/updates"] == 1, "4 agents x 2 rounds x 3 others, as many as were merged"
    assert found["refused"] == pytest.approx(8 / (24 + 8))
    assert found["smoothness"] == 0.25 and found["staleness"] == 1
    assert found["similarity/updates"] == pytest.approx(0) and found["similarity/movements"] == pytest.approx(
        1
    )
    assert found["affinity/mean_abs"] > 0
    assert np.array(row["matrices"]["similarity/updates"]) == pytest.approx(np.eye(4))
    assert row["agents"]["2"]["reward"] == [(256, pytest.approx(0.2)), (512, pytest.approx(0.6))]
    assert set(row["levels"]["trained"]) == {str(level) for level in range(1, 8)}
    assert row["levels"]["beyond"] == {"8": pytest.approx(0.2125), "9": pytest.approx(0.2125)}


def test_simulated_time_of_gossip_by_hand(tmp_path: Path) -> None:
    """The slowest device, the M2 (100 of 360 GB/s), makes 64 samples of 60 / 1024 s each; then 10 kB come and go."""
    curves = _row(tmp_path, "given_tasks")["curves"]
    learning, transfer = 64 * 60 / 1024 * 3.6, 2 * 10_000 / 125_000
    assert [x for x, _ in curves["accuracy/seconds/free"]] == pytest.approx([0, learning, 2 * learning])
    slow = [0, learning + transfer, 2 * (learning + transfer)]
    assert [x for x, _ in curves["accuracy/seconds/1"]] == pytest.approx(slow)


def test_agents_alone_send_nothing_and_one_trainer_has_nobody_to_be_compared_with(tmp_path: Path) -> None:
    alone = _row(tmp_path / "isolated", "isolated")["scalars"]
    assert alone["kilobytes/sent"] == 0 and alone["accuracy/per_kilobyte"] is None
    assert alone["completion/updates"] is None and alone["refused"] is None
    row = _row(tmp_path / "sync", "sync_centralized")
    assert row["evaluated"] == [0] and row["scalars"]["diversity"] == 0
    assert row["scalars"]["similarity/updates"] is None and "similarity/updates" not in row["matrices"]
    assert row["scalars"]["completion/rounds"] == 1


def test_of_a_trainers_workers_only_what_they_receive_counts_as_parameters(tmp_path: Path) -> None:
    found = _row(tmp_path, "async1_centralized")["scalars"]  # 4 steps, a trainer and 3 workers
    assert found["kilobytes/sent"] == 4 * SENT / 1000
    assert found["kilobytes/parameters"] == 4 * 3 * SENT / 1000
    assert found["accuracy/per_kilobyte"] == pytest.approx(0.6 / (4 * 3 * SENT / 1000 / 4))


def test_under_fedavg_both_ways_count_as_parameters(tmp_path: Path) -> None:
    found = _row(tmp_path, "fedavg")["scalars"]
    assert found["kilobytes/parameters"] == pytest.approx(
        4 * (found["kilobytes/sent"] + found["kilobytes/received"])
    )


def test_first_and_last_reward_are_of_as_many_samples_however_long_rounds_are() -> None:
    fine = [(float(x), x / 60.0) for x in range(1, 61)]  # 60 points, a 15th of which is 4
    assert _ends(fine) == (pytest.approx(2.5 / 60), pytest.approx(58.5 / 60))
    assert _ends([(30.0, 0.2), (60.0, 0.4)]) == (0.2, 0.4), "one point at least"
    assert _ends([]) == (None, None)


def test_out_of_step_agents_are_told_by_their_own_clock(tmp_path: Path) -> None:
    row = _row(tmp_path, "async_gossip")
    assert [x for x, _ in row["curves"]["accuracy/seconds/free"]] == [0, 60, 120]
    assert "accuracy/seconds/1" not in row["curves"]
    assert row["scalars"]["completion/rounds"] == 1


def test_a_row_is_json_and_the_same_run_gives_the_same_row(tmp_path: Path) -> None:
    (planned,) = plan(["given_tasks"], [3], "tiny", True)
    folder = write_run(tmp_path, planned, after=0.85)
    first, second = (json.dumps(run_row(planned, folder), allow_nan=False) for _ in range(2))
    assert first == second


def test_a_run_that_nobody_evaluated_is_refused(tmp_path: Path) -> None:
    (planned,) = plan(["given_tasks"], [3], "tiny", True)
    history = History(tmp_path / "history.jsonl")
    history.add(Event("train", 1, 0, {"reward/local": 0.5}))
    history.close()
    with pytest.raises(ValueError, match="holds no evaluation"):
        run_row(planned, tmp_path)


def test_an_evaluation_that_stands_for_two_rounds_is_counted_once(tmp_path: Path) -> None:
    """A slow agent's one reply is booked for every round of the network that waited for it."""
    (planned,) = plan(["async_gossip"], [3], "tiny", True)
    write_run(tmp_path, planned, after=0.85)
    before = run_row(planned, tmp_path)["scalars"]
    history = History(tmp_path / "history.jsonl")
    for number in (1, 2):
        event = next(e for e in history.events("evaluate") if (e.round, e.agent) == (number, 3))
        metrics = event.metrics | {"clock": 120.0, "refused/replayed": 6.0, "staleness": 7.0}
        history.add(Event("evaluate", number, 3, metrics, solved=event.solved))
    history.close()
    after = run_row(planned, tmp_path)["scalars"]
    assert before["refused"] == pytest.approx(8 / (24 + 8))
    assert after["refused"] == pytest.approx(14 / (24 + 14))
    # Round 1: four trainings and the evaluation, round 2: four trainings.
    assert after["staleness"] == pytest.approx(((4 * 1 + 7) / 5 + 1) / 2)
