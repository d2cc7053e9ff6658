"""Pictures of a run: what people would rather look at than read."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from symphony_fl.metrics.affinity import affinity
from symphony_fl.metrics.capabilities import capability_vectors, network_figures, skill_scores
from symphony_fl.metrics.history import History
from symphony_fl.reports.drawing import (
    ACCURACY,
    INK,
    cell_labels,
    heat_map,
    legend,
    mean_band,
    new_figure,
    save_png,
    signed_map,
    whole_rounds,
)

NAMED = 8
"""The most agents whose lines are told apart; of more, the mean and the band show what matters."""

Draw = Callable[[History, Axes], None]


def plot_run(history: History, folder: Path, skills: Sequence[str], held_out: int) -> list[Path]:
    """Accuracy over rounds and over bytes, reward, drift, who can do what, and how different agents are: PNG files.

    ``skills`` are those of the run, each evaluated on ``held_out`` tasks.

    Raises
    ------
    ValueError
        No agent was evaluated, or one not on all skills.
    """
    if not history.rounds("evaluate"):
        raise ValueError(f"{history.path}: holds no evaluation, must hold at least one")
    plots: dict[str, Draw] = {
        "accuracy_by_round": _accuracy_by_round,
        "accuracy_by_bytes": _accuracy_by_bytes,
        "reward": _reward,
        "drift": _drift,
        "skills": partial(_skills, skills=skills),
        "expertise": partial(_expertise, skills=skills, held_out=held_out),
        "diversity": partial(_diversity, skills=skills),
    }
    folder.mkdir(parents=True, exist_ok=True)
    return [save_png(partial(_figure, history, draw), folder / f"{name}.png") for name, draw in plots.items()]


def overview(history: History) -> Figure:
    """Accuracy by round and by bytes, side by side."""
    figure = new_figure(11, 4.4)
    left, right = figure.subplots(1, 2)
    _accuracy_by_round(history, left)
    _accuracy_by_bytes(history, right)
    return figure


def _figure(history: History, draw: Draw) -> Figure:
    figure = new_figure(7.5, 4.8)
    axes = figure.add_subplot()
    draw(history, axes)
    entries = len(axes.get_legend_handles_labels()[1])
    if entries:
        legend(figure, entries if entries <= 5 else -(-entries // 2))
    return figure


def _lines(history: History, axes: Axes, kind: str, metric: str) -> None:
    """One thin line per agent, a thick one for their mean, and a band from the lowest to the highest agent."""
    per_agent: dict[int, dict[int, float]] = {}
    for event in history.events(kind):
        if metric in event.metrics:
            per_agent.setdefault(event.agent, {})[event.round] = event.metrics[metric]
    if len(per_agent) <= NAMED:
        for agent, points in sorted(per_agent.items()):
            axes.plot(*zip(*points.items(), strict=True), linewidth=0.8, label=f"agent {agent}")
    bands = []
    for number, mean in history.mean(kind, metric).items():
        values = [points[number] for points in per_agent.values() if number in points]
        bands.append((float(number), min(values), mean, max(values)))
    if bands:
        mean_band(axes, bands, "mean", INK, band="lowest to highest agent")
    whole_rounds(axes)


def _accuracy_by_round(history: History, axes: Axes) -> None:
    _lines(history, axes, "evaluate", "accuracy/mean")
    axes.set(ylabel="held-out accuracy, all skills", ylim=(0, 1))


def _accuracy_by_bytes(history: History, axes: Axes) -> None:
    for event_agent in sorted({event.agent for event in history.events("evaluate")}):
        events = [event for event in history.events("evaluate") if event.agent == event_agent]
        sent = [history.total("bytes/sent", event.round).get(event_agent, 0.0) / 1000 for event in events]
        accuracy = [event.metrics["accuracy/mean"] for event in events]
        axes.plot(sent, accuracy, marker=".", label=f"agent {event_agent}")
    axes.set(xlabel="kB sent by the agent", ylabel="held-out accuracy, all skills", ylim=(0, 1))


def _reward(history: History, axes: Axes) -> None:
    _lines(history, axes, "train", "reward/local")
    axes.set(ylabel="mean reward of the round's rollouts", ylim=(0, 1))


def _drift(history: History, axes: Axes) -> None:
    kind = "train" if history.mean("train", "drift") else "evaluate"
    _lines(history, axes, kind, "drift")
    axes.set(ylabel="distance to neighbours / distance moved")


def _skills(history: History, axes: Axes, skills: Sequence[str]) -> None:
    """Final accuracy, agents x skills."""
    agents, scores_NS = skill_scores(history, history.rounds("evaluate")[-1], skills)
    image = heat_map(axes, scores_NS, (0, 1), ACCURACY)
    axes.figure.colorbar(image, ax=axes, label="accuracy")
    cell_labels(axes, [f"agent {agent}" for agent in agents], skills)
    _mark_cells(axes, _own_cells(history, agents, skills), "o", color="white", markersize=4)
    axes.set_title("final held-out accuracy (dot: trained by the agent itself)", fontsize="medium")


def _expertise(history: History, axes: Axes, skills: Sequence[str], held_out: int) -> None:
    """Final affinity, agents x skills: what each agent is better at than the others, and whether that is certain."""
    last = history.rounds("evaluate")[-1]
    agents, scores_NS = skill_scores(history, last, skills)
    affinity_NS = affinity(scores_NS)
    # Where all agents are alike, differences below one task must not be painted as large ones.
    limit = max(float(np.abs(affinity_NS).max()), 1 / held_out)
    image = signed_map(axes, affinity_NS, limit)
    axes.figure.colorbar(image, ax=axes, label="accuracy - mean over agents")
    cell_labels(axes, [f"agent {agent}" for agent in agents], skills)
    _mark_cells(axes, _own_cells(history, agents, skills), "o", color="black", markersize=4)
    vectors = capability_vectors(history, last, skills, held_out)
    mean_S = scores_NS.mean(axis=0)
    certain = {
        (row, column)
        for row, agent in enumerate(agents)
        for column, skill in enumerate(skills)
        if not vectors[agent][skill].low <= mean_S[column] <= vectors[agent][skill].high
    }
    _mark_cells(axes, certain, "o", color="black", markersize=10, fillstyle="none")
    axes.set_title(
        "final affinity (dot: trained by the agent itself; ring: the mean is outside its 95 % interval)",
        fontsize="small",
    )


def _diversity(history: History, axes: Axes, skills: Sequence[str]) -> None:
    """How different the agents' profiles are, and how specialised they are on average."""
    rounds = history.rounds("evaluate")
    figures = [network_figures(skill_scores(history, number, skills)[1]) for number in rounds]
    for name in ("diversity", "specialisation", "affinity/mean_abs"):
        axes.plot(rounds, [figure[name] for figure in figures], marker=".", label=name)
    whole_rounds(axes)
    axes.set(ylabel="each 0 to 1 at most")
    axes.set_ylim(bottom=0)


def _own_cells(history: History, agents: Sequence[int], skills: Sequence[str]) -> set[tuple[int, int]]:
    """(row, column) of the skills that an agent trained on."""
    trained = {
        (event.agent, name.removeprefix("reward/"))
        for event in history.events("train")
        for name in event.metrics
        if name.startswith("reward/")
    }
    return {
        (row, column)
        for row, agent in enumerate(agents)
        for column, skill in enumerate(skills)
        if (agent, skill) in trained
    }


def _mark_cells(
    axes: Axes,
    cells: Collection[tuple[int, int]],
    marker: str,
    color: str,
    markersize: int,
    fillstyle: str = "full",
) -> None:
    for row, column in sorted(cells):
        axes.plot(column, row, marker=marker, color=color, markersize=markersize, fillstyle=fillstyle)
