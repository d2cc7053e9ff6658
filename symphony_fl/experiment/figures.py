"""The line plots of the report: accuracy, reward, drift, similarity and traces, one colour per paradigm everywhere.

Lines are means over seeds, bands reach from the lowest to the highest seed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from symphony_fl.experiment.columns import Rows
from symphony_fl.experiment.paradigms import BY_NAME
from symphony_fl.reports.drawing import (
    GREY,
    band_entry,
    grid_of,
    hide_unused,
    legend,
    logarithmic,
    mean_band,
    new_figure,
    thousands,
)

Curve = Sequence[Sequence[float]]
FEW = 12  # points that are all marked
SAMPLES = "completions trained on, whole network"
SEEDS = "lowest to highest seed"


def accuracy_over_samples(rows: Rows) -> Figure:
    figure = new_figure(8, 4.4)
    axes = figure.add_subplot()
    _curves(axes, rows, "accuracy")
    thousands(axes, SAMPLES)
    axes.set(ylabel="held-out accuracy", ylim=(0, 1))
    legend(figure, 4)
    return figure


def reward_over_samples(rows: Rows) -> Figure:
    figure = new_figure(8, 4.4)
    axes = figure.add_subplot()
    _curves(axes, rows, "reward", markers=False)
    thousands(axes, SAMPLES)
    axes.set(ylabel="mean reward of a round's rollouts", ylim=(0, 1))
    legend(figure, 4)
    return figure


def accuracy_over_bytes(rows: Rows) -> Figure:
    """What sends nothing is a dashed line at its final accuracy."""
    figure = new_figure(8, 4.4)
    axes = figure.add_subplot()
    for name in rows.paradigms:
        points = [
            (x, low, middle, high)
            for x, low, middle, high in _bands(row["curves"]["accuracy/bytes"] for row in rows.of(name))
            if x > 0
        ]
        if points:
            _line(axes, name, points)
        else:
            final = rows.values(name, "accuracy/mean").values()
            axes.axhline(sum(final) / len(final), color=BY_NAME[name].color, linestyle="--", label=name)
    band_entry(axes, SEEDS)
    logarithmic(axes, "kB sent per agent so far")
    axes.set(ylabel="held-out accuracy", ylim=(0, 1))
    legend(figure, 4)
    return figure


def accuracy_over_time(rows: Rows) -> Figure:
    """Simulated hours on links of 10 Mbit/s; without a round barrier (dashed): the run's own clock, free transfers."""
    figure = new_figure(8, 4.4)
    axes = figure.add_subplot()
    for name in rows.paradigms:
        own = [row["curves"].get("accuracy/seconds/10") for row in rows.of(name)]
        style = "-" if all(own) else "--"
        curves = own if all(own) else [row["curves"]["accuracy/seconds/free"] for row in rows.of(name)]
        points = _bands([(seconds / 60, accuracy) for seconds, accuracy in curve] for curve in curves)
        _line(axes, name, points, style=style)
    band_entry(axes, SEEDS)
    axes.set(xlabel="simulated minutes", ylabel="held-out accuracy", ylim=(0, 1))
    legend(figure, 4)
    return figure


def drift_and_staleness(rows: Rows) -> Figure:
    figure = new_figure(8, 3.8)
    left, right = figure.subplots(1, 2)
    for axes, name, label in (
        (left, "drift", "drift"),
        (right, "staleness", "staleness, rounds or steps"),
    ):
        _curves(axes, rows, name, markers=False)
        thousands(axes, SAMPLES)
        axes.set(ylabel=label)
        axes.set_ylim(bottom=0)
    legend(figure, 4)
    return figure


def similarity_over_samples(rows: Rows) -> Figure:
    figure = new_figure(8, 3.8)
    left, right = figure.subplots(1, 2)
    _curves(left, rows, "smoothness", markers=False)
    left.set(ylabel="cosine of successive updates", title="within an agent")
    _curves(right, rows, "similarity/updates")
    right.set(ylabel="mean cosine over pairs", title="between agents' updates")
    for axes in (left, right):
        thousands(axes, SAMPLES)
        axes.axhline(0, color=GREY, linewidth=0.8)
    legend(figure, 4)
    return figure


def accuracy_by_difficulty(rows: Rows) -> Figure:
    """Full lines: levels that were trained; dashed, beyond the grey line: harder ones."""
    figure = new_figure(8, 4.4)
    axes = figure.add_subplot()
    last = 0
    for name in rows.paradigms:
        both: dict[str, dict[int, list[float]]] = {"trained": defaultdict(list), "beyond": defaultdict(list)}
        for row in rows.of(name):
            for part, levels in both.items():
                for level, value in row["levels"][part].items():
                    levels[int(level)].append(value)
        for part, style in (("trained", "-"), ("beyond", "--")):
            points = sorted((level, sum(found) / len(found)) for level, found in both[part].items())
            if points:
                label = name if part == "trained" else None
                axes.plot(
                    *zip(*points, strict=True),
                    style,
                    color=BY_NAME[name].color,
                    marker=BY_NAME[name].marker,
                    label=label,
                )
        last = max(last, *both["trained"], 0)
    axes.axvline(last + 0.5, color=GREY, linewidth=0.8)
    axes.set(xlabel="difficulty (letters, digits)", ylabel="accuracy after training", ylim=(0, 1.02))
    legend(figure, 4)
    return figure


def agent_traces(rows: Rows) -> Figure:
    """The first seed of every paradigm: a thin line per agent, accuracy full, reward dotted."""
    tall, wide = grid_of(len(rows.paradigms), 4)
    figure = new_figure(2.5 * wide + 0.5, 2.3 * tall + 0.4)
    panels = list(figure.subplots(tall, wide, sharex=True, sharey=True, squeeze=False).flat)
    for axes, name in zip(panels, rows.paradigms, strict=False):
        first = rows.of(name)[0]
        for number, trace in sorted(first["agents"].items(), key=lambda item: int(item[0])):
            _trace(axes, name, trace["accuracy"], "-", 1.0 - 0.15 * (int(number) % 5))
            _trace(axes, name, trace["reward"], ":", 0.5)
        axes.set_title(f"{name}, seed {first['seed']}", fontsize=9)
        axes.set_ylim(0, 1)
        thousands(axes, "")
    hide_unused(panels, len(rows.paradigms))
    figure.supxlabel(SAMPLES, fontsize=9)
    figure.supylabel("accuracy (full), reward (dotted)", fontsize=9)
    return figure


def accuracy_by_seed(rows: Rows) -> Figure:
    """One dot per seed, a bar at their mean."""
    figure = new_figure(8, 0.42 * len(rows.paradigms) + 1.0)
    axes = figure.add_subplot()
    for place, name in enumerate(reversed(rows.paradigms)):
        values = rows.values(name, "accuracy/mean")
        axes.plot(
            list(values.values()),
            [place] * len(values),
            linestyle="",
            marker=BY_NAME[name].marker,
            color=BY_NAME[name].color,
        )
        middle = sum(values.values()) / len(values)
        axes.plot([middle, middle], [place - 0.3, place + 0.3], color=BY_NAME[name].color)
    axes.set_yticks(range(len(rows.paradigms)), list(reversed(rows.paradigms)))
    axes.set_xlabel("held-out accuracy after training, one mark per seed")
    return figure


def _curves(axes: Axes, rows: Rows, curve: str, markers: bool = True) -> None:
    for name in rows.paradigms:
        points = _bands(row["curves"][curve] for row in rows.of(name))
        if points:
            _line(axes, name, points, markers)
    band_entry(axes, SEEDS)


def _line(
    axes: Axes,
    name: str,
    points: Sequence[tuple[float, float, float, float]],
    markers: bool = True,
    style: str = "-",
) -> None:
    marker = BY_NAME[name].marker if markers or len(points) <= FEW else None
    mean_band(axes, points, name, BY_NAME[name].color, marker=marker, style=style)


def _bands(curves: Iterable[Curve]) -> list[tuple[float, float, float, float]]:
    """(x, lowest, mean, highest) over seeds, point by point; x is the mean, since seeds differ by a few bytes."""
    found = [curve for curve in curves if curve]
    longest = max(map(len, found), default=0)
    points = []
    for place in range(longest):
        there = [curve[place] for curve in found if place < len(curve)]
        values = [point[1] for point in there]
        x = sum(point[0] for point in there) / len(there)
        points.append((x, min(values), sum(values) / len(values), max(values)))
    return points


def _trace(axes: Axes, name: str, curve: Curve, style: str, alpha: float) -> None:
    if curve:
        axes.plot(*zip(*curve, strict=True), style, color=BY_NAME[name].color, alpha=alpha, linewidth=1.2)
