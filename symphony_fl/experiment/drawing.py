"""How every plot of the report looks, and how it becomes part of a page that is read on light and dark screens.

Text stays text and takes the page's colour; the ground is left out. The same figure gives the same bytes.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from symphony_fl.experiment.paradigms import BY_NAME

INK = "#010203"  # stands for the page's own text colour
STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "symphony",
    "font.size": 10,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#808080",
    "grid.alpha": 0.25,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "lines.markersize": 5,
}
FONTS = "font-family: 'DejaVu Sans', Verdana, sans-serif"

CLEANING = (
    (r"\s*<metadata>.*?</metadata>", ""),  # links
    (r'\s(?:xmlns(?::\w+)?|version)="[^"]*"', ""),  # an element of an HTML page needs none
    ("xlink:href", "href"),
    (r"<defs>\s*<style.*?</style>\s*</defs>", ""),  # its rule would hold for the whole page
    (r'(<image\b[^>]*?) id="[^"]*"', r"\1"),  # equal pictures have equal ones, and nobody refers to them
    (r'font-family: [^;"]*', FONTS),
    (INK, "currentColor"),
)


def new_figure(width: float, height: float) -> Figure:
    """Without pyplot: no global state, no display needed."""
    return Figure(figsize=(width, height), layout="constrained")


def styled(draw: Callable[[], Figure]) -> Figure:
    """The figure that `draw` makes, in the report's style; nobody else's figures change."""
    with matplotlib.rc_context(STYLE):
        return draw()


def to_svg(figure: Figure, name: str, alternative: str) -> str:
    """The figure as an <svg> element; `name` is unique in the page, `alternative` says what is to be seen."""
    with matplotlib.rc_context(STYLE):
        file = io.StringIO()
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = file.getvalue()
    text = text[text.index("<svg") :]
    for pattern, replacement in CLEANING:
        text = re.sub(pattern, replacement, text, flags=re.DOTALL)
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = re.sub(r'href="#|url\(#', lambda found: f"{found.group()}{name}-", text)
    label = alternative.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
    return text.replace("<svg", f'<svg role="img" aria-label="{label}"', 1).rstrip()


def color_of(paradigm: str) -> str:
    return BY_NAME[paradigm].color


def legend(figure: Figure, axes: Axes, columns: int) -> None:
    """One legend below all axes, each paradigm once."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, fontsize=9)


def grid_of(count: int, columns: int) -> tuple[int, int]:
    """(rows, columns) that hold `count` panels."""
    wide = min(count, columns)
    return -(-count // wide), wide


def hide_unused(axes: Sequence[Axes], used: int) -> None:
    for item in axes[used:]:
        item.set_axis_off()
