"""Commands that read what runs left: `dashboard`, `timing`, `replay`."""

from __future__ import annotations

import math
from typing import Annotated

import typer

from symphony_fl.cli.words import EXPERIMENT, PageFile, ResultFile, StoreExperiment, StoreUri


def dashboard(
    settings: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[key=value]...",
            help="with --out: only runs with these settings or tags",
            show_default=False,
        ),
    ] = None,
    uri: StoreUri = None,
    experiment: StoreExperiment = EXPERIMENT,
    out: PageFile = None,
    host: Annotated[str, typer.Option("--host", help="address of MLflow's page")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", help="its port")] = 5000,
) -> int:
    """MLflow's web page on a tracking store; with --out a file: table and plots of an experiment's runs."""
    from symphony_fl.cli.compare import Store, export, serve_page
    from symphony_fl.config.recipe import RecipeError

    if out:
        return export(Store(uri, experiment), out, None, (), settings or (), ())
    if settings:
        raise RecipeError(f"{settings[0]!r}: settings need --out FILE; MLflow's page has filters of its own")
    return serve_page(uri, host, port)


def _check_speeds(speeds: list[float] | None) -> list[float] | None:
    for speed in speeds or ():
        if not 0 < speed < math.inf:
            raise typer.BadParameter(f"{speed}: must be above 0 and finite")
    return speeds


def timing(
    folders: Annotated[list[str], typer.Argument(metavar="DIR...", help="folders of runs")],
    accuracy: Annotated[
        float, typer.Option("--accuracy", help="mean over agents and skills that is to be reached")
    ] = 0.8,
    mbit: Annotated[
        list[float] | None,
        typer.Option(
            "--mbit",
            metavar="MBIT...",
            help="link speeds, e.g. 1 10 100 (default: the recipe's)",
            callback=_check_speeds,
        ),
    ] = None,
    json_file: ResultFile = None,
) -> int:
    """Simulated time to an accuracy of runs that are done, on their recipes' devices and links of given Mbit/s."""
    from symphony_fl.cli.timing import print_timing

    return print_timing(folders, accuracy, mbit or (), json_file)


def replay(
    run: Annotated[
        str,
        typer.Argument(
            metavar="RUN|all", help="folder or name of a run; all: every run under ~/.symphony-fl/runs"
        ),
    ],
    uri: Annotated[
        str | None,
        typer.Option(
            "--uri",
            metavar="URI",
            help="the store, where it is another one by now (none of the run must be there yet)",
        ),
    ] = None,
) -> int:
    """Bring what a tracking store missed there, from the folders of runs."""
    from symphony_fl.tracking.replay import replay_runs

    return replay_runs(run, uri)
