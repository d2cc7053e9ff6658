"""Pictures of a run: what people would rather look at than read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from symphony_fl.history import History


def plot_run(history: History, folder: Path) -> list[Path]:
    """Accuracy over rounds and over bytes, reward, drift and the heat map of skills, as PNG files."""
    plots: dict[str, Callable[[History, Axes], None]] = {
        "accuracy_by_round": _accuracy_by_round,
        "accuracy_by_bytes": _accuracy_by_bytes,
        "reward": _reward,
        "drift": _drift,
        "skills": _skills,
    }
    folder.mkdir(parents=True, exist_ok=True)
    return [_save(history, draw, folder / f"{name}.png") for name, draw in plots.items()]


def _save(history: History, draw: Callable[[History, Axes], None], path: Path) -> Path:
    # Figure without pyplot: no global state, no display needed.
    figure = Figure(figsize=(7, 4.5), dpi=120, layout="constrained")
    draw(history, figure.add_subplot())
    figure.savefig(path)
    return path


def _lines(history: History, axes: Axes, kind: str, metric: str) -> None:
    """One thin line per agent, a thick one for their mean."""
    per_agent: dict[int, list[tuple[int, float]]] = {}
    for event in history.events(kind):
        if metric in event.metrics:
            per_agent.setdefault(event.agent, []).append((event.round, event.metrics[metric]))
    for agent, points in sorted(per_agent.items()):
        axes.plot(*zip(*points, strict=True), linewidth=0.8, alpha=0.7, label=f"agent {agent}")
    mean = history.mean(kind, metric)
    axes.plot(list(mean), list(mean.values()), color="black", linewidth=2, label="mean")
    axes.set_xlabel("round")
    axes.grid(alpha=0.3)
    if len(per_agent) <= 8:
        axes.legend(fontsize="small")


def _accuracy_by_round(history: History, axes: Axes) -> None:
    _lines(history, axes, "evaluate", "accuracy/mean")
    axes.set(ylabel="held-out accuracy, all skills", ylim=(0, 1))


def _accuracy_by_bytes(history: History, axes: Axes) -> None:
    for event_agent in sorted({event.agent for event in history.events("evaluate")}):
        events = [event for event in history.events("evaluate") if event.agent == event_agent]
        sent = [history.total("bytes/sent", event.round).get(event_agent, 0.0) / 1000 for event in events]
        axes.plot(
            sent,
            [event.metrics["accuracy/mean"] for event in events],
            marker=".",
            label=f"agent {event_agent}",
        )
    axes.set(xlabel="kB sent by the agent", ylabel="held-out accuracy, all skills", ylim=(0, 1))
    axes.grid(alpha=0.3)


def _reward(history: History, axes: Axes) -> None:
    _lines(history, axes, "train", "reward/local")
    axes.set(ylabel="mean reward of the round's rollouts", ylim=(0, 1))


def _drift(history: History, axes: Axes) -> None:
    kind = "train" if history.mean("train", "drift") else "evaluate"
    _lines(history, axes, kind, "drift")
    axes.set(ylabel="distance to neighbours / distance moved")


def _skills(history: History, axes: Axes) -> None:
    """Final accuracy, agents x skills; an agent's own skills carry a dot."""
    rounds = history.rounds("evaluate")
    final = [event for event in history.events("evaluate") if rounds and event.round == rounds[-1]]
    skills = sorted(
        {
            name.removeprefix("accuracy/")
            for event in final
            for name in event.metrics
            if name.startswith("accuracy/")
        }
        - {"mean", "own"}
    )
    trained = {
        event.agent: {name.removeprefix("reward/") for name in event.metrics if name.startswith("reward/")}
        for event in history.events("train")
    }
    table = np.array(
        [[event.metrics.get(f"accuracy/{skill}", np.nan) for skill in skills] for event in final]
    )
    if table.size:
        image = axes.imshow(table, vmin=0, vmax=1, cmap="viridis", aspect="auto")
        axes.figure.colorbar(image, ax=axes, label="accuracy")
    for row, event in enumerate(final):
        for column, skill in enumerate(skills):
            if skill in trained.get(event.agent, set()):
                axes.plot(column, row, marker="o", color="white", markersize=4)
    axes.set_xticks(range(len(skills)), skills, rotation=45, ha="right")
    axes.set_yticks(range(len(final)), [f"agent {event.agent}" for event in final])
    axes.set_title("final held-out accuracy (dot: trained by the agent itself)", fontsize="medium")
