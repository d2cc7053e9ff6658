"""Accuracy against bytes: the same work under many settings of the exchange, and which settings no other beats.

A point of the frontier is a recipe with overrides; each is run with several seeds through Flower, its bytes counted on
the wire. Rows that are already in the results file are not run again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from matplotlib.figure import Figure

from symphony_fl.build.checks import check_recipe
from symphony_fl.config.options import Recipe
from symphony_fl.config.recipe import load_recipe
from symphony_fl.reports.drawing import GREY, INK, logarithmic, new_figure, save_png
from symphony_fl.reports.tables import Table

BASELINE = "fedavg"
"""The point all others are compared with: Flower's FedAvg on the same adapters in float32."""

POINTS: tuple[str, ...] = (
    BASELINE,
    "fedavg rounds=15 learner.steps=8",
    "isolated",
    # rules
    "gossip",
    "gossip exchange.selection=cyclic exchange.selection.density=0.05 exchange.codec=bfloat16",
    "gossip exchange.rule=delta",
    "gossip exchange.rule=delta exchange.rule.scaling=sum exchange.codec=bfloat16",
    "gossip exchange.rule=noloco topology=random_pairs",
    "choco",
    "sparta",
    # bits and density of the shared state
    "given_tasks exchange.selection=dense exchange.codec=int4",
    "given_tasks exchange.selection=dense",
    "given_tasks exchange.selection.density=0.1",
    "given_tasks",
    "given_tasks exchange.selection.density=0.02",
    "given_tasks exchange.codec=int4",
    "epidemic",
    # adapters
    "given_tasks exchange.selection.density=0.1 adapter.rank=4",
    "given_tasks exchange.selection.density=0.2 adapter.rank=2",
    "given_tasks exchange.selection.density=0.1 adapter.kind=lora_fa learner.learning_rate=0.006",
    "given_tasks exchange.selection.density=0.1 adapter.kind=lora_sb adapter.rank=32 learner.learning_rate=0.01",
)
"""Rule x density x bits x adapter on the job of given tasks; every point trains as many steps on as many samples."""


@dataclass(frozen=True)
class Figures:
    """A point's means over seeds. `ratio` is the baseline's bytes over the point's, sent and received together."""

    point: str
    seeds: int
    accuracy: float
    spread: float
    kilobytes: float
    ratio: float | None
    best: bool


def point_recipe(point: str, seed: int) -> Recipe:
    """The checked recipe of a point, such as "default exchange.selection.density=0.1"; raises RecipeError."""
    name, *overrides = point.split()
    return check_recipe(load_recipe(name, [*overrides, f"seed={seed}"]))


def wanted(points: Sequence[str], seeds: Sequence[int]) -> list[tuple[str, Recipe]]:
    """(point, recipe) of all that is asked for, the first seed of every point first; raises RecipeError."""
    return [(point, point_recipe(point, seed)) for seed in seeds for point in points]


def finished(
    wanted: Sequence[tuple[str, Recipe]], rows: Sequence[Mapping[str, Any]]
) -> list[Mapping[str, Any]]:
    """The rows of completed runs of what is wanted. A run of an earlier version of a recipe has another digest."""
    found = {(row["point"], row["recipe_digest"]): row for row in rows if row["status"] == "completed"}
    keys = [(point, recipe.digest) for point, recipe in wanted]
    return [found[key] for key in keys if key in found]


def still_to_run(
    wanted: Sequence[tuple[str, Recipe]], rows: Sequence[Mapping[str, Any]]
) -> list[tuple[str, Recipe]]:
    """What has no completed run yet."""
    had = {(row["point"], row["recipe_digest"]) for row in finished(wanted, rows)}
    return [(point, recipe) for point, recipe in wanted if (point, recipe.digest) not in had]


def figures(rows: Sequence[Mapping[str, Any]]) -> list[Figures]:
    """Means of completed rows by point, fewest bytes first; `best` where nothing has fewer bytes and more accuracy."""
    totals = {point: _kilobytes(rows, point) for point in dict.fromkeys(row["point"] for row in rows)}
    means = {point: mean(_accuracies(rows, point)) for point in totals}
    base = totals.get(BASELINE)
    return [
        Figures(
            point=point,
            seeds=len(_accuracies(rows, point)),
            accuracy=means[point],
            spread=stdev(_accuracies(rows, point)) if len(_accuracies(rows, point)) > 1 else 0.0,
            kilobytes=totals[point],
            ratio=base / totals[point] if base and totals[point] else None,
            best=not any(totals[other] <= totals[point] and means[other] > means[point] for other in totals),
        )
        for point in sorted(totals, key=lambda name: totals[name])
    ]


def frontier_table(found: Sequence[Figures]) -> str:
    """Markdown; a star marks the points that no other beats in both."""
    head = (
        "",
        "recipe and overrides",
        "seeds",
        "accuracy",
        "kB per agent, sent + received",
        "fewer bytes than FedAvg",
    )
    rows = tuple(
        (
            "*" if item.best else "",
            f"`{item.point}`",
            str(item.seeds),
            f"{item.accuracy:.3f} ± {item.spread:.3f}",
            f"{item.kilobytes:,.1f}",
            "-" if item.ratio is None else f"{item.ratio:.1f}x",
        )
        for item in found
    )
    return Table("frontier", "", head, rows).markdown()


def plot_frontier(found: Sequence[Figures], path: Path) -> Path:
    """Accuracy over bytes on a logarithmic scale, the frontier drawn through."""
    return save_png(lambda: _figure(found), path)


def _figure(found: Sequence[Figures]) -> Figure:
    figure = new_figure(10, 6)
    axes = figure.add_subplot()
    sent = [item for item in found if item.kilobytes]
    for item in sent:
        axes.errorbar(
            item.kilobytes, item.accuracy, yerr=item.spread, marker="o", capsize=2, label=item.point
        )
    best = [item for item in sent if item.best]
    axes.plot([item.kilobytes for item in best], [item.accuracy for item in best], color=INK, linewidth=0.8)
    for item in found:
        if not item.kilobytes:
            axes.axhline(item.accuracy, linestyle=":", color=GREY, label=item.point)
    axes.set(xlabel="kB per agent, sent + received", ylabel="held-out accuracy, all skills")
    if sent:  # else there is nothing on the scale: agents that learn alone are lines
        logarithmic(axes, "kB per agent, sent + received")
    figure.legend(fontsize="x-small", loc="outside right upper")
    return figure


def _accuracies(rows: Sequence[Mapping[str, Any]], point: str) -> list[float]:
    return [row["accuracy_after"] for row in rows if row["point"] == point]


def _kilobytes(rows: Sequence[Mapping[str, Any]], point: str) -> float:
    both = [
        row["bytes_sent_per_agent"] + row["bytes_received_per_agent"] for row in rows if row["point"] == point
    ]
    return float(mean(both)) / 1000
