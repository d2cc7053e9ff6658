"""The page: sections named as in the paper's section 6, tables and plots, all in one file that needs no network."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from symphony_fl.config.learning import EpisodicOptions
from symphony_fl.config.options import Recipe
from symphony_fl.config.recipe import RecipeError
from symphony_fl.experiment import figures, heatmaps
from symphony_fl.experiment.columns import Rows
from symphony_fl.experiment.machine import PACKAGES, machine
from symphony_fl.experiment.paradigms import BY_NAME, Planned, total_samples
from symphony_fl.experiment.rows import Row, run_row
from symphony_fl.experiment.tables import all_tables
from symphony_fl.launch.local_superlink import APP_FOLDER
from symphony_fl.reports.drawing import styled, to_svg
from symphony_fl.reports.pages import render as render_page
from symphony_fl.reports.tables import Table
from symphony_fl.storage.folders import write_json

BEGIN, END = "<!-- paper tables: begin -->", "<!-- paper tables: end -->"
IN_README = ("paradigms", "broadcast", "generalisation", "stability", "delay", "time")
"""The tables that a README is given; the page has all."""


@dataclass(frozen=True)
class Plot:
    """A figure of the report and what is to be seen in it."""

    draw: Callable[[Rows], Figure]
    caption: str


PLOTS = {
    "accuracy_samples": Plot(
        figures.accuracy_over_samples,
        "Held-out accuracy while training. A line further left learns from fewer samples.",
    ),
    "reward": Plot(
        figures.reward_over_samples,
        "Reward trajectories: mean reward of each round's rollouts. Agents with skills of their own are rewarded on "
        "those only, so heights compare within a paradigm, shapes between them.",
    ),
    "accuracy_bytes": Plot(
        figures.accuracy_over_bytes,
        "Accuracy against bytes, logarithmic. Further left costs less for the same accuracy; dashed: sends nothing.",
    ),
    "time": Plot(
        figures.accuracy_over_time,
        "Accuracy against simulated time on four unequal devices with links of 10 Mbit/s. A barrier waits for the "
        "slowest; dashed: out of step, by its own clock, transfers free.",
    ),
    "staleness": Plot(
        figures.drift_and_staleness,
        "Parameter drift (left) and how old what is used is (right). Flat lines are stable.",
    ),
    "difficulty": Plot(
        figures.accuracy_by_difficulty,
        "Task difficulty scaling. Right of the grey line: longer questions than any that was trained.",
    ),
    "affinity": Plot(
        heatmaps.affinity_maps,
        "Agent-task affinity after training: blue is better than the agents' mean. Pale maps: all can do the same.",
    ),
    "similarity": Plot(
        figures.similarity_over_samples,
        "Left: intra-agent smoothness; above 0 successive updates go the same way. Right: whether agents' updates do.",
    ),
    "matrices": Plot(
        heatmaps.similarity_matrices,
        "Inter-agent cosine similarity of LoRA updates (first seed). Blue: the same direction; white: unrelated.",
    ),
    "seeds": Plot(figures.accuracy_by_seed, "Variance across seeds: the closer the marks, the more stable."),
    "traces": Plot(
        figures.agent_traces,
        "Agent-level trace histories: every agent's accuracy (full) and reward (dotted).",
    ),
}


@dataclass(frozen=True)
class Written:
    """What a report came to: all its files, the page among them, its tables, and a sentence on where they are from."""

    page: Path
    files: list[Path]
    tables: Mapping[str, Table]
    source: str


def write(
    folder: Path,
    asked: Mapping[str, str],
    planned: Sequence[Planned],
    folder_of: Callable[[Planned], Path],
) -> Written:
    """The page, its tables in Markdown and its rows as JSON, of the runs that are done."""
    rows = [run_row(item, folder_of(item)) for item in planned]
    tables = all_tables(rows)
    page, text, data = folder / "report.html", folder / "tables.md", folder / "rows.json"
    recipes = {item.paradigm: item.recipe for item in planned}
    on = machine(APP_FOLDER)
    page.write_text(render(rows, recipes, asked, on), encoding="utf-8")
    text.write_text("\n\n".join(table.markdown() for table in tables.values()) + "\n", encoding="utf-8")
    write_json(data, {"asked": dict(asked), "rows": rows})
    return Written(page, [page, text, data], tables, _source(asked, on))


def _source(asked: Mapping[str, str], on: Mapping[str, str]) -> str:
    versions = ", ".join(f"{name} {on[name]}" for name in ("Python", *PACKAGES))
    return (
        f"By `{asked['command']}` (run {asked['ways']}) at commit {on['commit']}, {on['date']}, on {on['processor']} "
        f"({versions})."
    )


def render(
    rows: Sequence[Row], recipes: Mapping[str, Recipe], asked: Mapping[str, str], on: Mapping[str, str]
) -> str:
    """The page as HTML: the same arguments give the same text."""
    found = Rows(rows)
    plots = {name: _plot(found, name, plot) for name, plot in PLOTS.items()}
    first = next(iter(recipes.values()))
    values = {
        "asked": asked,
        "machine": on,
        "tables": all_tables(rows),
        "plots": plots,
        "captions": {name: plot.caption for name, plot in PLOTS.items()},
        "paradigms": [BY_NAME[name] for name in found.paradigms],
        "recipes": recipes,
        "agents": _agents(first),
        "samples": total_samples(first),
        "seeds": sorted({row["seed"] for row in rows}),
    }
    return render_page("template.html", values, Path(__file__).parent)


def check_marks(readme: Path) -> None:
    """Refuse a --readme file without the two marks before hours of work, not after.

    Raises
    ------
    RecipeError
        It cannot be read, or lacks one of the marks, or has them the wrong way round.
    """
    try:
        text = readme.expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"--readme {readme}: cannot be read ({error})") from None
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise RecipeError(
            f"--readme {readme}: must hold the lines {BEGIN} and {END}, once each, in this order"
        )


def into_readme(readme: Path, tables: Mapping[str, Table], source: str) -> None:
    """Put the main tables, and where they are from, between the marks; all else stays as it is. Raises RecipeError
    as `check_marks` does."""
    check_marks(readme)
    text = readme.expanduser().read_text(encoding="utf-8")
    before, after = text[: text.index(BEGIN) + len(BEGIN)], text[text.index(END) :]
    between = "\n\n".join((source, *(tables[key].markdown() for key in IN_README)))
    readme.expanduser().write_text(f"{before}\n\n{between}\n\n{after}", encoding="utf-8")


def _plot(rows: Rows, name: str, plot: Plot) -> str:
    return to_svg(styled(lambda: plot.draw(rows)), name, plot.caption)


def _agents(recipe: Recipe) -> dict[str, str]:
    """The agents' configuration, the paper's 6.1, as of the first recipe."""
    model, adapter, learner, tasks = recipe.model, recipe.adapter, recipe.learner, recipe.tasks
    beyond = [*tasks.unseen, *tasks.harder]
    return {
        "Model": f"{model.name}, {model.dtype}, quantization {model.quantization}, on {model.device}",
        "Adapter": f"{adapter.kind}, rank {adapter.rank}, alpha {adapter.alpha:g}, on {', '.join(adapter.targets)}",
        "Memory": f"{recipe.memory.capacity} episodes"
        if isinstance(recipe.memory, EpisodicOptions)
        else "off in this comparison",
        "Tasks": ", ".join(tasks.skills),
        "Held out": f"{tasks.held_out} tasks of each, never trained on; beyond: {', '.join(beyond) or 'none'}",
        "Optimization": f"GRPO, {learner.samples} completions per task, AdamW {learner.learning_rate:g}, "
        f"temperature {learner.temperature:g}",
    }
