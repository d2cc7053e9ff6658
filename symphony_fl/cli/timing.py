"""`symphony timing`: when a run would have reached an accuracy, on its recipe's devices and on given links."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from symphony_fl.config.options import Recipe
from symphony_fl.config.recipe import RecipeError, load_recipe
from symphony_fl.metrics.history import History
from symphony_fl.simulation.device_profiles import Fleet, recipe_fleet
from symphony_fl.storage.folders import write_json

Row = dict[str, float | str | None]


def print_timing(
    folders: Sequence[str], accuracy: float, megabits: Sequence[float], json_file: str | None
) -> int:
    """The table of runs that are done to the terminal, its rows to `json_file`; the exit status."""
    rows: list[Row] = []
    for folder in folders:
        recipe, history = _run(Path(folder).expanduser())
        rows += timing_rows(history, recipe, accuracy, megabits, Path(folder).name)
    print(timing_table(rows, accuracy))
    if json_file:
        write_json(Path(json_file).expanduser(), {"rows": rows})
    return 0


def timing_rows(
    history: History, recipe: Recipe, accuracy: float, megabits: Sequence[float], name: str
) -> list[Row]:
    """One row per link speed: seconds to the accuracy and of the whole run; on the recipe's own links where none are
    named. A run without a round barrier has a row for the links it ran with only.

    Raises
    ------
    RecipeError
        The run has no time on any of them, and why.
    """
    from symphony_fl.simulation.round_time import (  # loads networkx
        TimeError,
        evaluated_seconds,
        time_to_accuracy,
    )

    own = recipe_fleet(recipe)
    fleets: list[Fleet] = [own.connected(speed) for speed in megabits] or [own]
    rows: list[Row] = []
    refused = ""
    for fleet in fleets:
        try:
            seconds = evaluated_seconds(history, recipe, fleet)
        except TimeError as error:
            refused = str(error)
            continue
        reached = time_to_accuracy(history, accuracy, recipe, fleet)
        reports = history.mean("evaluate", "accuracy/mean")
        rows.append(
            {
                "run": name,
                "strategy": recipe.strategy.name,
                "mbit": _links(fleet),
                "seconds_to_accuracy": reached,
                "seconds": seconds[max(seconds)] if seconds else None,
                "accuracy_after": reports[max(reports)] if reports else None,
            }
        )
    if not rows:
        raise RecipeError(f"{name}: {refused}")
    return rows


def timing_table(rows: Sequence[Row], accuracy: float) -> str:
    """For a terminal."""
    head = ("run", "strategy", "Mbit/s", f"s to {accuracy:g}", "s in all", "accuracy after")
    lines = [head]
    for row in rows:
        lines.append(
            (
                str(row["run"]),
                str(row["strategy"]),
                str(row["mbit"]),
                _number(row["seconds_to_accuracy"], ",.1f", "never"),
                _number(row["seconds"], ",.1f", "-"),
                _number(row["accuracy_after"], ".3f", "-"),
            )
        )
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines
    )


def _run(folder: Path) -> tuple[Recipe, History]:
    for name in ("recipe.json", "history.jsonl", "result.json"):
        if not (folder / name).is_file():
            raise RecipeError(f"{folder}: holds no run that is done (no {name})")
    return load_recipe(str(folder / "recipe.json")), History(folder / "history.jsonl")


def _links(fleet: Fleet) -> str:
    """Mbit/s of all links, as a recipe would say it."""
    links = {(item.up, item.down) for item in fleet.agents}
    if len(links) > 1:
        return "mixed"
    up, down = links.pop()
    if math.isinf(up):
        return "no limit"
    return f"{up:g}" if up == down else f"{up:g}/{down:g}"


def _number(value: float | str | None, form: str, missing: str) -> str:
    return missing if value is None else format(value, form)
