"""The same runs on Flower's own in-memory grid and on ours with forked workers, in one process that loads torch once.

    python both_grids.py FOLDER < RUNS    RUNS: JSON, [[recipe, [override, ...]], ...]

Prints JSON: of every run, the digests of its adapters on Flower's grid and on ours, each played in a child: torch does
not compute gradients in forks of a process that has.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from pathlib import Path

from flwr.serverapp import Grid
from loopback import Loopback, real_agents

import symphony_fl.reports.plots
import symphony_fl.tracking.mlflow_store  # noqa: F401  once for all
from clients.worker_pool import serve
from strategies.grids.in_memory import InMemoryGrid
from strategies.grids.multiplex import MultiplexGrid
from strategies.in_process import PoolWorker
from strategies.server_app import Run, run_rounds
from symphony_fl.build.checks import check_recipe
from symphony_fl.build.learners import recipe_policy
from symphony_fl.config.options import Recipe
from symphony_fl.config.recipe import load_recipe


def on_flowers_grid(recipe: Recipe, folder: Path) -> None:
    loop = Loopback(real_agents(folder))
    for node in range(nodes(recipe)):
        loop.join(node)
    with loop.working() as grid:
        play(grid, recipe, folder)


def on_ours(recipe: Recipe, folder: Path) -> None:
    workers = [forked(folder), forked(folder)]  # before there are threads
    grid = InMemoryGrid(nodes(recipe), 2, workers.pop)
    play(grid, recipe, folder)
    grid.close()


def forked(folder: Path) -> PoolWorker:
    ours, theirs = socket.socketpair()
    if os.fork() == 0:
        try:
            ours.close()
            serve(theirs, folder)
        finally:
            os._exit(0)
    theirs.close()
    return PoolWorker(ours)


def nodes(recipe: Recipe) -> int:
    return -(-recipe.agents // recipe.agents_per_node)


def play(grid: Grid, recipe: Recipe, folder: Path) -> None:
    many = grid if recipe.agents_per_node == 1 else MultiplexGrid(grid, recipe.agents_per_node)
    run_rounds(many, Run(recipe, folder.name, folder))


def in_a_child(work: object, recipe: Recipe, folder: Path) -> dict[str, str]:
    """Digests of a run that a fork does; its words go to standard error."""
    folder.mkdir(parents=True)
    child = os.fork()
    if child == 0:
        try:
            os.dup2(2, 1)
            work(recipe, folder)  # type: ignore[operator]
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    digests: dict[str, str] = json.loads((folder / "result.json").read_text())["adapter_digests"]
    return digests


def main() -> None:
    folder = Path(sys.argv[1])
    recipes = [check_recipe(load_recipe(name, overrides)) for name, overrides in json.load(sys.stdin)]
    recipe_policy(recipes[0])
    found = []
    for number, recipe in enumerate(recipes):
        # A run's name is part of what agents sign: it is the same on both.
        flower, ours = folder / "flower" / f"run{number}", folder / "ours" / f"run{number}"
        found.append([in_a_child(on_flowers_grid, recipe, flower), in_a_child(on_ours, recipe, ours)])
        print(recipe.name, found[-1], file=sys.stderr, flush=True)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
