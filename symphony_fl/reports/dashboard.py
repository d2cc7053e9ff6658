"""An experiment's runs as one file to look at or to send: table, plots, list of runs, out of a tracking store."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from symphony_fl.config.recipe import RecipeError
from symphony_fl.reports.drawing import (
    legend,
    logarithmic,
    new_figure,
    save_png,
    styled,
    to_svg,
    whole_rounds,
)
from symphony_fl.reports.pages import render
from symphony_fl.reports.tables import Table, comparison
from symphony_fl.tracking.mlflow_store import metric_series

Row = Mapping[str, Any]
FORMS = (".html", ".md")


@dataclass(frozen=True)
class Curve:
    """A run's course: round -> mean held-out accuracy, kB sent per agent so far, mean reward."""

    label: str
    accuracy: Mapping[int, float]
    kilobytes: Mapping[int, float]
    reward: Mapping[int, float]


def curves(uri: str, rows: Sequence[Row]) -> list[Curve]:
    """The courses of the runs, as they were tracked.

    Raises
    ------
    StoreAway
        The store cannot be read.
    """
    found = []
    for row in rows:
        sent = metric_series(uri, row["id"], "bytes/sent")
        found.append(
            Curve(
                f"{row['recipe']}, seed {row['seed']}",
                metric_series(uri, row["id"], "accuracy/mean"),
                {round: size / 1000 for round, size in sent.items()},
                metric_series(uri, row["id"], "reward/local"),
            )
        )
    return found


def check_form(path: Path) -> None:
    """Refuse a file of another form than we write, before anything is read."""
    if path.suffix not in FORMS:
        raise RecipeError(f"--out {path}: must end in {' or '.join(FORMS)}")


def write_dashboard(path: Path, title: str, rows: Sequence[Row], drawn: Sequence[Curve]) -> list[Path]:
    """An HTML file that holds all, or a Markdown file with its pictures beside it; the files written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draws = {name: (caption, partial(_figure, draw, drawn)) for name, (caption, draw) in PLOTS.items()}
    if path.suffix == ".html":
        pictures = {
            name: (caption, to_svg(styled(draw), name, caption)) for name, (caption, draw) in draws.items()
        }
        values = {"title": title, "comparison": comparison(rows), "pictures": pictures, "runs": _runs(rows)}
        path.write_text(render("dashboard.html", values), encoding="utf-8")
        return [path]
    files = [path]
    parts = [f"# {title}", comparison(rows).markdown()]
    for name, (caption, draw) in draws.items():
        beside = save_png(draw, path.with_name(f"{path.stem}-{name}.png"))
        files.append(beside)
        parts += [f"![{caption}]({beside.name})", caption]
    parts += ["## Runs", _runs(rows).markdown()]
    path.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    return files


def _runs(rows: Sequence[Row]) -> Table:
    """Where each row of the comparison comes from."""
    head = ("recipe", "seed", "status", "accuracy after", "run", "MLflow's id", "digest of the recipe")
    lines = []
    for row in rows:
        accuracy = "-" if row["accuracy_after"] is None else f"{row['accuracy_after']:.3f}"
        run = (row["run"], row["id"], row["recipe_digest"])
        lines.append((row["recipe"], str(row["seed"]), row["status"], accuracy, *run))
    return Table("runs", "", head, tuple(lines))


def _figure(draw: Callable[[Axes, Sequence[Curve]], None], drawn: Sequence[Curve]) -> Figure:
    figure = new_figure(8, 4.8)
    draw(figure.add_subplot(), drawn)
    legend(figure, 3)
    return figure


def _by_bytes(axes: Axes, drawn: Sequence[Curve]) -> None:
    for curve in drawn:
        rounds = [round for round in sorted(curve.accuracy) if round in curve.kilobytes]
        # From the first byte on: nothing on a logarithmic axis is 0.
        shown = [round for round in rounds if curve.kilobytes[round] > 0]
        points = [curve.kilobytes[round] for round in shown], [curve.accuracy[round] for round in shown]
        axes.plot(*points, marker=".", label=curve.label)
    if any(size > 0 for curve in drawn for size in curve.kilobytes.values()):
        logarithmic(axes, "kB sent per agent")
    axes.set(xlabel="kB sent per agent", ylabel="held-out accuracy, mean over agents", ylim=(0, 1))


def _by_round(axes: Axes, drawn: Sequence[Curve]) -> None:
    _lines(axes, {curve.label: curve.accuracy for curve in drawn})
    axes.set(ylabel="held-out accuracy, mean over agents", ylim=(0, 1))


def _rewards(axes: Axes, drawn: Sequence[Curve]) -> None:
    _lines(axes, {curve.label: curve.reward for curve in drawn})
    axes.set(ylabel="mean reward of the round's rollouts", ylim=(0, 1))


def _lines(axes: Axes, courses: Mapping[str, Mapping[int, float]]) -> None:
    for label, course in courses.items():
        rounds = sorted(course)
        axes.plot(rounds, [course[round] for round in rounds], marker=".", label=label)
    whole_rounds(axes)


PLOTS: dict[str, tuple[str, Callable[[Axes, Sequence[Curve]], None]]] = {
    "accuracy_by_bytes": ("What accuracy costs: held-out accuracy against kB sent per agent.", _by_bytes),
    "accuracy_by_round": ("Held-out accuracy, mean over agents and skills, by round.", _by_round),
    "reward": ("Reward trajectories: mean over agents, by round.", _rewards),
}
