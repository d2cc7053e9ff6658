"""Runs that people watch: one with its summary, or several one after the other (`runs.py`)."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from symphony_fl.config.options import Recipe
from symphony_fl.config.recipe import RecipeError
from symphony_fl.launch.display import Display, display
from symphony_fl.launch.feasible import check_feasible
from symphony_fl.launch.flower import new_run_folder, run_recipe
from symphony_fl.launch.local_superlink import LaunchError
from symphony_fl.launch.runtime import FLOWER, IN_PROCESS, Runner, runner


def runtime_of(in_process: bool) -> str:
    """The runtime that the option names."""
    return IN_PROCESS if in_process else FLOWER


def run_one(recipe: Recipe, folder: Path, network: str | None, runtime: str) -> dict[str, Any]:
    """On this machine alone, or on the devices of a network; its result."""
    if network is not None and runtime == IN_PROCESS:
        raise RecipeError("--in-process: agents of --network are processes on devices; name one of the two")
    if network is None:
        check_feasible(recipe, runtime == IN_PROCESS)
    what = "Flower" if runtime == FLOWER else "agents in-process"
    print(
        f"recipe {recipe.name}, seed {recipe.seed}: {recipe.agents} agents, {recipe.rounds} rounds; starting {what} ..."
    )
    print(f"folder {folder}", flush=True)
    with display() as shown:
        if network is None:
            with runner(runtime, shown.step) as run_it:
                result = run_it(recipe, folder, shown.line, steps=shown.step)
        else:
            result = _run_on(network, recipe, folder, shown)
    return result


def _run_on(network: str, recipe: Recipe, folder: Path, shown: Display) -> dict[str, Any]:
    """On the devices of that network."""
    from symphony_fl.cli.devices import network_folder
    from symphony_fl.edge.network import network_superlink

    with network_superlink(network_folder(network)) as link:
        return run_recipe(link, recipe, folder, shown.line, steps=shown.step)


def run_each(todo: Sequence[tuple[str, Recipe]], runtime: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """(name, its result) of one run after the other; Flower is not started where there is nothing to do."""
    if not todo:
        return
    for _, recipe in todo:
        check_feasible(recipe, runtime == IN_PROCESS)
    with display() as shown, runner(runtime, shown.step) as run_it:
        for number, (name, recipe) in enumerate(todo, start=1):
            shown.heading(f"[{number}/{len(todo)}] {name}, seed {recipe.seed}")
            yield name, _run_or_report(run_it, recipe, runtime, shown)


def _run_or_report(run_it: Runner, recipe: Recipe, runtime: str, shown: Display) -> dict[str, Any]:
    """A failed run is a row of the comparison, not its end."""
    folder = new_run_folder(recipe)
    try:
        return run_it(recipe, folder, shown.line, steps=shown.step)
    except LaunchError as error:
        print(f"symphony: {error}", file=sys.stderr)
        failed = {"recipe": recipe.name, "seed": recipe.seed, "status": "failed", "error": str(error)}
        return failed | {"recipe_digest": recipe.digest, "folder": str(folder), "runtime": runtime}
