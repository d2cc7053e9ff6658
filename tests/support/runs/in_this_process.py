"""A whole run in the process of the test: the real server, Flower's own grid in memory, real agents with homes on disk.

What is missing are Flower's and Ray's processes, so a run costs what its agents compute. For tests of what the server
and the agents do to each other; `tests/security/test_simulation.py` shows that the numbers are those of `flwr run`.

    python in_this_process.py FOLDER    the same for the recipe.json in FOLDER, in a process that can be killed
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from loopback import Handler, Loopback, real_agents

from strategies.server_app import Run, claimed, one_node_each, run_rounds
from symphony_fl.build.checks import check_recipe
from symphony_fl.config.options import Recipe
from symphony_fl.config.recipe import load_recipe
from symphony_fl.launch.flower import prepare_folder


def run_here(
    name: str, overrides: Sequence[str], folder: Path, handler: Handler | None = None
) -> dict[str, Any]:
    """A run of a recipe, new or to be resumed; its result as the server wrote it. Raises what the server raises.

    Parameters
    ----------
    name, overrides
        Of the recipe.
    folder
        The run's; its name is the run's name.
    handler
        What the nodes do, if they are no honest agents.
    """
    return play(check_recipe(load_recipe(name, overrides)), folder, handler)


def play(recipe: Recipe, folder: Path, handler: Handler | None = None) -> dict[str, Any]:
    """The same for a recipe that is checked."""
    prepare_folder(recipe, folder)
    loop = Loopback(handler or real_agents(folder))
    for node in range(-(-recipe.agents // recipe.agents_per_node)):
        loop.join(node)
    run = Run(recipe, folder.name, folder)
    with loop.working() as grid, claimed(run):
        run_rounds(one_node_each(grid, recipe), run)
    result: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return result


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    play(check_recipe(load_recipe(str(folder / "recipe.json"))), folder)
