"""How every plot looks, and how it is saved: PNG beside a run, SVG in a page that is read on light and dark screens.

In an SVG, text stays text and takes the page's colour, and the background is transparent. The same figure gives the
same bytes. Plots of a run are in `plots.py`, those of the paper's experiment in `symphony_fl/experiment/`.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import FuncFormatter, LogFormatter, MaxNLocator

INK = "#010203"  # stands for the page's own text colour
STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "symphony",
    "font.size": 10,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.titlesize": 10,
    "axes.labelsize": 10,
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
DPI = 120  # of a PNG
DIVERGING: Colormap = LinearSegmentedColormap.from_list("red-white-blue", ["#b2182b", "#ffffff", "#2166ac"])
"""For signed figures, affinity and cosines among them: red below 0, white at 0, blue above."""
ACCURACY = "viridis"
"""For figures from 0 to 1."""
GREY = "#808080"
FONTS = "font-family: 'DejaVu Sans', Verdana, sans-serif"

CLEANING = (
    (r"\s*<metadata>.*?</metadata>", ""),  # links
    (r'\s(?:xmlns(?::\w+)?|version)="[^"]*"', ""),  # an element of an HTML page needs none
    ("xlink:href", "href"),
    (r"<defs>\s*<style.*?</style>\s*</defs>", ""),  # its rule would hold for the whole page
    (r'(<image\b[^>]*?) id="[^"]*"', r"\1"),  # equal images have equal ids, and no element refers to them
    (r'font-family: [^;"]*', FONTS),
    (INK, "currentColor"),
)


def new_figure(width: float, height: float) -> Figure:
    """Without pyplot: no global state, no display needed."""
    return Figure(figsize=(width, height), layout="constrained")


def styled(draw: Callable[[], Figure]) -> Figure:
    """The figure that `draw` makes, in our style; other figures of the process keep theirs."""
    with matplotlib.rc_context(STYLE):
        return draw()


def to_png(figure: Figure) -> bytes:
    """The figure as a PNG file on white."""
    with matplotlib.rc_context(STYLE):
        file = io.BytesIO()
        figure.savefig(file, format="png", dpi=DPI, metadata={"Software": None})
    return file.getvalue()


def save_png(draw: Callable[[], Figure], path: Path) -> Path:
    """Draw in our style and write the PNG; returns its path."""
    path.write_bytes(to_png(styled(draw)))
    return path


def to_svg(figure: Figure, name: str, alternative: str) -> str:
    """The figure as an <svg> element; `name` is unique in the page, `alternative` describes it for screen readers."""
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


def whole_rounds(axes: Axes, label: str = "round") -> None:
    """The x axis counts rounds: ticks at whole numbers only."""
    axes.set_xlabel(label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def thousands(axes: Axes, label: str) -> None:
    """The x axis counts many things: 12k for 12000."""
    axes.set_xlabel(label)
    axes.xaxis.set_major_formatter(
        FuncFormatter(lambda value, _: f"{value / 1000:g}k" if value >= 1000 else f"{value:g}")
    )


def logarithmic(axes: Axes, label: str) -> None:
    """The x axis is logarithmic, with plain numbers, between decades where there are few."""
    axes.set_xscale("log")
    axes.set_xlabel(label)
    axes.xaxis.set_major_formatter(LogFormatter())
    axes.xaxis.set_minor_formatter(LogFormatter(labelOnlyBase=False))


def mean_band(
    axes: Axes,
    points: Sequence[tuple[float, float, float, float]],
    label: str,
    color: str,
    *,
    marker: str | None = None,
    style: str = "-",
    band: str | None = None,
) -> None:
    """A mean and a band around it.

    Parameters
    ----------
    points : (x, lowest, mean, highest)
    band : the band's own entry in the legend; None where the legend names it once for all lines (`band_entry`)
    """
    x, low, middle, high = zip(*points, strict=True)
    axes.plot(x, middle, style, color=color, marker=marker, label=label)
    axes.fill_between(x, low, high, color=color, alpha=0.15, linewidth=0, label=band)


def band_entry(axes: Axes, label: str) -> None:
    """An entry of the legend that says what all bands are."""
    axes.fill_between([], [], [], color=GREY, alpha=0.3, linewidth=0, label=label)


def legend(figure: Figure, columns: int) -> None:
    """One legend below all axes, each label once, in the order in which they were drawn."""
    found: dict[str, Artist] = {}
    for axes in figure.axes:
        handles, labels = axes.get_legend_handles_labels()
        for label, handle in zip(labels, handles, strict=True):
            found.setdefault(label, handle)
    figure.legend(list(found.values()), list(found), loc="outside lower center", ncols=columns, fontsize=9)


def heat_map(
    axes: Axes,
    matrix: np.ndarray,
    limits: tuple[float, float],
    colors: str | Colormap,
    form: str | None = None,
) -> AxesImage:
    """A matrix as coloured cells in a thin frame; with `form` each cell shows its number."""
    image = axes.imshow(matrix, vmin=limits[0], vmax=limits[1], cmap=colors, aspect="auto")
    if form is not None:
        _numbers(axes, image, matrix, form)
    axes.grid(False)
    axes.tick_params(length=0)
    for side in axes.spines.values():  # a frame on all sides, since cells may be white
        side.set(visible=True, color=GREY, linewidth=0.6)
    return image


def signed_map(axes: Axes, matrix: np.ndarray, limit: float, form: str | None = None) -> AxesImage:
    """`heat_map` of figures that may be negative: blue above 0, red below, limits the same both ways."""
    return heat_map(axes, matrix, (-limit, limit), DIVERGING, form)


def cell_labels(axes: Axes, rows: Sequence[str], columns: Sequence[str], size: float = 9) -> None:
    """Names of the rows and columns of a heat map."""
    axes.set_xticks(
        range(len(columns)), columns, rotation=40, ha="right", rotation_mode="anchor", fontsize=size
    )
    axes.set_yticks(range(len(rows)), rows, fontsize=size)


def _numbers(axes: Axes, image: AxesImage, matrix: np.ndarray, form: str) -> None:
    """Numbers that are not 0, white on dark cells; without the 0 before the point, to fit."""
    for (line, column), value in np.ndenumerate(matrix):
        if abs(value) < 0.005:
            continue
        red, green, blue, _ = image.cmap(image.norm(value))
        color = "white" if 0.299 * red + 0.587 * green + 0.114 * blue < 0.5 else "black"
        text = format(value, form).replace("0.", ".")
        axes.text(column, line, text, ha="center", va="center", fontsize=6.5, color=color)


def grid_of(count: int, columns: int) -> tuple[int, int]:
    """(rows, columns) that hold `count` panels."""
    wide = min(count, columns)
    return -(-count // wide), wide


def hide_unused(axes: Sequence[Axes], used: int) -> None:
    """Switch off the panels of a grid that nothing is drawn in."""
    for item in axes[used:]:
        item.set_axis_off()
