"""An experiment's runs as one file to look at or to send: table, plots, list of runs, out of a tracking store."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from symphony_fl.config.recipe import RecipeError
from symphony_fl.reports.tables import comparison_cells
from symphony_fl.tracking.mlflow_store import metric_series

Row = Mapping[str, Any]
FORMS = (".html", ".md")

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem }
body { color: #222; background: #fff }
table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums }
th, td { padding: .25rem .75rem; border-bottom: 1px solid #ddd; text-align: left }
figure { margin: 1.5rem 0 } img { max-width: 100% } figcaption { color: #555 } code { font-size: .85em }
"""


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
    pictures = {name: (caption, _picture(draw, drawn)) for name, (caption, draw) in PLOTS.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".html":
        path.write_text(_page(title, rows, pictures), encoding="utf-8")
        return [path]
    files = [path]
    lines = [f"# {title}", "", *_markdown(comparison_cells(rows))]
    for name, (caption, picture) in pictures.items():
        beside = path.with_name(f"{path.stem}-{name}.png")
        beside.write_bytes(picture)
        files.append(beside)
        lines += ["", f"![{caption}]({beside.name})", "", caption]
    path.write_text("\n".join([*lines, "", "## Runs", "", *_markdown(_runs(rows)), ""]), encoding="utf-8")
    return files


def _page(title: str, rows: Sequence[Row], pictures: Mapping[str, tuple[str, bytes]]) -> str:
    figures = [
        f'<figure><img alt="{html.escape(caption)}" src="data:image/png;base64,{base64.b64encode(data).decode()}">'
        f"<figcaption>{html.escape(caption)}</figcaption></figure>"
        for caption, data in pictures.values()
    ]
    parts = [
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">',
        f"<title>{html.escape(title)}</title><style>{STYLE}</style></head><body>",
        f"<h1>{html.escape(title)}</h1>",
        _table(comparison_cells(rows)),
        *figures,
        "<h2>Runs</h2>",
        _table(_runs(rows)),
        "</body></html>\n",
    ]
    return "\n".join(parts)


def _runs(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    """Head, then where each row of the comparison comes from."""
    head = ("recipe", "seed", "status", "accuracy after", "run", "MLflow's id", "digest of the recipe")
    lines = []
    for row in rows:
        accuracy = "-" if row["accuracy_after"] is None else f"{row['accuracy_after']:.3f}"
        lines.append(
            (
                row["recipe"],
                str(row["seed"]),
                row["status"],
                accuracy,
                row["run"],
                row["id"],
                row["recipe_digest"],
            )
        )
    return [head, *lines]


def _table(lines: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in lines[0])
    body = ("".join(f"<td>{html.escape(cell)}</td>" for cell in line) for line in lines[1:])
    return f"<table><tr>{head}</tr>\n" + "\n".join(f"<tr>{line}</tr>" for line in body) + "</table>"


def _markdown(lines: Sequence[Sequence[str]]) -> list[str]:
    cells = [[cell.replace("|", "\\|") for cell in line] for line in lines]
    table = ["| " + " | ".join(line) + " |" for line in cells]
    return [table[0], "|" + "---|" * len(lines[0]), *table[1:]]


def _picture(draw: Callable[[Figure, Sequence[Curve]], None], drawn: Sequence[Curve]) -> bytes:
    # Figure without pyplot: no global state, no display needed.
    figure = Figure(figsize=(8, 4.8), dpi=110, layout="constrained")
    draw(figure, drawn)
    data = io.BytesIO()
    figure.savefig(data, format="png")
    return data.getvalue()


def _by_bytes(figure: Figure, drawn: Sequence[Curve]) -> None:
    axes = figure.add_subplot()
    for curve in drawn:
        rounds = [round for round in sorted(curve.accuracy) if round in curve.kilobytes]
        # From the first byte on: nothing on a logarithmic axis is 0.
        shown = [round for round in rounds if curve.kilobytes[round] > 0]
        points = [curve.kilobytes[round] for round in shown], [curve.accuracy[round] for round in shown]
        axes.plot(*points, marker=".", label=curve.label)
    axes.set(
        xlabel="kB sent per agent", ylabel="held-out accuracy, mean over agents", ylim=(0, 1), xscale="log"
    )
    _finish(axes)


def _by_round(figure: Figure, drawn: Sequence[Curve]) -> None:
    axes = figure.add_subplot()
    for curve in drawn:
        rounds = sorted(curve.accuracy)
        axes.plot(rounds, [curve.accuracy[round] for round in rounds], marker=".", label=curve.label)
    axes.set(xlabel="round", ylabel="held-out accuracy, mean over agents", ylim=(0, 1))
    _finish(axes)


def _rewards(figure: Figure, drawn: Sequence[Curve]) -> None:
    axes = figure.add_subplot()
    for curve in drawn:
        rounds = sorted(curve.reward)
        axes.plot(rounds, [curve.reward[round] for round in rounds], marker=".", label=curve.label)
    axes.set(xlabel="round", ylabel="mean reward of the round's rollouts", ylim=(0, 1))
    _finish(axes)


def _finish(axes: Any) -> None:
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")


PLOTS = {
    "accuracy_by_bytes": ("What accuracy costs: held-out accuracy against kB sent per agent.", _by_bytes),
    "accuracy_by_round": ("Held-out accuracy, mean over agents and skills, by round.", _by_round),
    "reward": ("Reward trajectories: mean over agents, by round.", _rewards),
}
