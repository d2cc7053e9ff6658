"""What a run says of itself: steps in logs, and how they read."""

from __future__ import annotations

import pytest

from symphony_fl.launch.progress import STEP, Step, Watch, duration, figures_line, pass_on, read_step

TRAIN = Step("train", 2, 4, 3, 15)
FIGURES = Step("figures", round=3, rounds=15, figures={"accuracy": 0.5, "sent": 12300.0})


@pytest.mark.parametrize("step", [TRAIN, FIGURES, Step("agents", 0, 4), Step("results")])
@pytest.mark.parametrize("before", ["", "INFO :      ", "\x1b[92mINFO \x1b[0m:      "])
def test_a_step_is_read_as_it_was_logged(step: Step, before: str) -> None:
    assert read_step(before + step.line() + "\n") == step


@pytest.mark.parametrize(
    "line",
    [
        "WARNING :   node 5 does not take part: " + TRAIN.line(),  # an agent's words
        TRAIN.line()[:-1],
        STEP + "[]",
        STEP + "{}",
        STEP + '{"stage": "lunch"}',
        STEP + '{"stage": ["train"]}',
        STEP + '{"stage": "train", "done": -1}',
        STEP + '{"stage": "train", "done": true}',
        STEP + '{"stage": "train", "done": 1e9}',
        STEP + '{"stage": "train", "done": 10000000000}',
        STEP + '{"stage": "train", "who": 1}',
        STEP + '{"stage": "figures", "figures": {"accuracy": NaN}}',
        STEP + '{"stage": "figures", "figures": {"accuracy": "0.5"}}',
        STEP + '{"stage": "figures", "figures": {"loss": 0.5}}',
        STEP + '{"stage": "figures", "figures": [1]}',
        STEP + '{"stage": ' + "[" * 100_000 + "}",
    ],
)
def test_what_is_no_step_is_none(line: str) -> None:
    assert read_step(line) is None


def test_lines_go_to_whom_they_are_meant_for() -> None:
    lines: list[str] = []
    steps: list[Step] = []
    for line in (
        "INFO :      symphony: round 1/2, 3 s\n",
        f"INFO :      {TRAIN.line()}\n",
        "INFO :      other\n",
    ):
        pass_on(line, lines.append, steps.append)
    assert (lines, steps) == (["round 1/2, 3 s"], [TRAIN])


def test_a_watch_says_where_the_run_is_and_for_how_long() -> None:
    watch = Watch(0.0)
    assert watch.status(3.0) == "starting, 3 s"
    assert watch.hear(Step("superlink"), 4.0) and watch.status(6.4) == "starting Flower's SuperLink, 2 s"
    assert watch.hear(Step("agents", 0, 4), 10.0) and not watch.hear(Step("agents", 1, 4), 20.0)
    assert watch.status(21.0) == "starting the agents: 1 of 4 are ready, 11 s"
    assert watch.share() == 0.0
    assert watch.hear(Step("evaluate", 0, 4, 0, 15), 30.0)
    assert watch.status(31.0) == "before round 1: 0 of 4 agents are evaluated, 1 s"
    assert watch.hear(TRAIN, 40.0) and not watch.hear(Step("train", 3, 4, 3, 15), 41.0)
    assert watch.what() == "round 3/15: 3 of 4 agents have trained"


def test_what_is_left_follows_from_the_rounds_that_are_over() -> None:
    watch = Watch(0.0)
    watch.hear(Step("figures", round=0, rounds=10), 100.0)
    assert watch.left(101.0) is None and watch.share() == 0.0
    watch.hear(Step("figures", round=1, rounds=10), 110.0)
    watch.hear(Step("figures", round=2, rounds=10, figures={"accuracy": 0.4}), 116.0)
    assert watch.left(116.0) == pytest.approx(8 * 8.0)
    assert watch.left(120.0) == pytest.approx(60.0)
    assert watch.left(10_000.0) == 0.0
    watch.hear(Step("train", 1, 4, 3, 10), 120.0)
    assert watch.status(121.0) == "round 3/10: 1 of 4 agents have trained, 1 s, about 59 s left"
    assert watch.share() == pytest.approx((2 + 0.25 * 0.8) / 10)
    watch.hear(Step("figures", round=10, rounds=10), 200.0)
    assert watch.share() == 1.0 and watch.left(201.0) == 0.0
    assert watch.figures == {"accuracy": 0.4}


def test_a_resumed_run_counts_from_where_it_went_on() -> None:
    watch = Watch(0.0)
    watch.hear(Step("figures", round=7, rounds=10), 100.0)
    watch.hear(Step("figures", round=8, rounds=10), 104.0)
    assert watch.left(104.0) == pytest.approx(8.0)


def test_figures_and_durations_for_people() -> None:
    assert figures_line({"sent": 12340.0, "accuracy": 0.5}) == "accuracy 0.500, 12.3 kB sent"
    assert figures_line({}) == ""
    assert (duration(119.4), duration(150.0)) == ("119 s", "2 min")
