"""The matrices of the report: who is good at what, and whose updates resemble whose; first seed of every paradigm."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from symphony_fl.experiment.columns import Rows
from symphony_fl.experiment.rows import Row
from symphony_fl.reports.drawing import cell_labels, grid_of, hide_unused, new_figure, signed_map


def similarity_matrices(rows: Rows) -> Figure:
    """Upper row: cosines of the agents' last updates; lower: of their movements since the start."""
    shown = [
        rows.of(name)[0] for name in rows.paradigms if "similarity/updates" in rows.of(name)[0]["matrices"]
    ]
    if not shown:
        return _nothing("no paradigm of this experiment has two agents that train")
    figure = new_figure(max(5.0, 2.0 * len(shown) + 0.8), 4.6)
    panels = figure.subplots(2, len(shown), squeeze=False)
    for column, row in enumerate(shown):
        for line, key in enumerate(("similarity/updates", "similarity/movements")):
            axes = panels[line][column]
            matrix_NN = np.array(row["matrices"][key])
            image = signed_map(axes, matrix_NN, 1.0, ".2f")
            axes.set_aspect("equal")
            axes.set_xticks(range(len(matrix_NN)))
            axes.set_yticks(range(len(matrix_NN)))
            if line == 0:
                axes.set_title(row["paradigm"], fontsize=9)
            if column == 0:
                axes.set_ylabel("last updates" if line == 0 else "whole movement", fontsize=9)
    figure.colorbar(image, ax=panels, label="cosine", shrink=0.7)
    return figure


def affinity_maps(rows: Rows) -> Figure:
    """Agents x skills, only of paradigms in which several agents are evaluated."""
    shown = [rows.of(name)[0] for name in rows.paradigms if len(rows.of(name)[0]["evaluated"]) > 1]
    if not shown:
        return _nothing("no paradigm of this experiment has two agents that are evaluated")
    limit = max(0.05, *(float(np.abs(row["matrices"]["affinity"]).max()) for row in shown))
    tall, wide = grid_of(len(shown), 2)
    figure = new_figure(8, 2.1 * tall + 0.4)
    panels = list(figure.subplots(tall, wide, squeeze=False).flat)
    for axes, row in zip(panels, shown, strict=False):
        image = _affinity(axes, row, limit)
    hide_unused(panels, len(shown))
    figure.colorbar(image, ax=panels, label="accuracy less mean", shrink=0.7)
    return figure


def _affinity(axes: Axes, row: Row, limit: float) -> AxesImage:
    affinity_NS = np.array(row["matrices"]["affinity"])
    image = signed_map(axes, affinity_NS, limit, "+.2f")
    cell_labels(axes, [f"agent {number}" for number in row["evaluated"]], row["skills"], size=8)
    axes.set_title(f"{row['paradigm']}, seed {row['seed']}", fontsize=9)
    return image


def _nothing(why: str) -> Figure:
    figure = new_figure(8, 1.0)
    axes = figure.add_subplot()
    axes.set_axis_off()
    axes.text(0.5, 0.5, why, ha="center", va="center")
    return figure
