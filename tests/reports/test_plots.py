"""Every plot is drawn from a real history file, and the heat maps show what the history says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from symphony_fl.metrics.history import Event, History
from symphony_fl.reports.plots import _diversity, _expertise, plot_run

SKILLS = ("sort", "add")
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def history(tmp_path: Path) -> History:
    """Agent 0 learns to sort, agent 1 to add; an accuracy that is no skill of the run is in the reports."""
    history = History(tmp_path / "history.jsonl")
    for round, good, bad in ((0, 0.5, 0.5), (5, 1.0, 0.4)):
        for agent, (sort, add) in enumerate(((good, bad), (bad, good))):
            figures = {"accuracy/sort": sort, "accuracy/add": add, "accuracy/mean": (sort + add) / 2}
            history.add(Event("evaluate", round, agent, figures | {"accuracy/own": good}))
            history.add(Event("train", round, agent, {f"reward/{SKILLS[agent]}": 0.3, "reward/local": 0.3}))
    return history


def test_all_plots_are_written(history: History, tmp_path: Path) -> None:
    found = plot_run(history, tmp_path / "plots", SKILLS, held_out=10)
    names = {path.stem for path in found}
    assert {"accuracy_by_round", "accuracy_by_bytes", "reward", "drift"} <= names
    assert {"skills", "expertise", "diversity"} <= names
    assert all(path.read_bytes().startswith(PNG) for path in found)


def test_a_run_without_an_evaluation_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="history.jsonl: holds no evaluation"):
        plot_run(History(tmp_path / "history.jsonl"), tmp_path / "plots", SKILLS, held_out=10)


@pytest.mark.parametrize(
    ("held_out", "certain"),
    [
        (4, set()),  # 0.7 lies in the intervals of 4 of 4 and of 1.6 of 4
        (1000, {(0, 0), (0, 1), (1, 0), (1, 1)}),
    ],
)
def test_expertise_shows_affinity_and_rings_what_is_certain(
    history: History, held_out: int, certain: set[tuple[int, int]]
) -> None:
    axes = Figure().add_subplot()
    _expertise(history, axes, SKILLS, held_out)
    (image,) = axes.images
    shown = np.asarray(image.get_array())
    assert shown.tolist() == pytest.approx(np.array([[0.3, -0.3], [-0.3, 0.3]]))
    assert image.get_clim() == pytest.approx((-0.3, 0.3))
    dots, rings = set(), set()
    for line in axes.lines:
        (column,), (row,) = line.get_data()
        (rings if line.get_fillstyle() == "none" else dots).add((row, column))
    assert dots == {(0, 0), (1, 1)}, "each agent trains on one skill"
    assert rings == certain


def test_alike_agents_are_painted_alike(history: History) -> None:
    for agent in (0, 1):
        history.add(Event("evaluate", 9, agent, {"accuracy/sort": 0.1, "accuracy/add": 0.7}))
    axes = Figure().add_subplot()
    _expertise(history, axes, SKILLS, held_out=20)
    (image,) = axes.images
    assert not np.asarray(image.get_array()).any()
    assert image.get_clim() == (-0.05, 0.05)


def test_diversity_is_drawn_over_evaluated_rounds(history: History) -> None:
    axes = Figure().add_subplot()
    _diversity(history, axes, SKILLS)
    lines = {line.get_label(): line for line in axes.lines}
    assert set(lines) == {"diversity", "specialisation", "affinity/mean_abs"}
    assert list(lines["diversity"].get_xdata()) == [0, 5]
    values = list(lines["diversity"].get_ydata())
    # Profiles (5/7, 2/7) and (2/7, 5/7): 1 - H, since their mean is uniform.
    assert values == pytest.approx([0.0, 1 + (5 * np.log2(5 / 7) + 2 * np.log2(2 / 7)) / 7])
