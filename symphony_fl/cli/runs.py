"""Commands that start runs: `run`, `resume`, `compare`, `frontier`, `experiment`, and `bench`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from symphony_fl.cli.words import (
    EXPERIMENT,
    InProcess,
    OnNetwork,
    PageFile,
    ResultFile,
    Settings,
    StoreExperiment,
    StoreUri,
    complete_recipe,
    complete_word,
)

if TYPE_CHECKING:
    from symphony_fl.config.options import Recipe

DEFAULT_SEEDS = (0, 1, 2)


def run(
    recipe: Annotated[
        str,
        typer.Argument(
            metavar="RECIPE",
            help="a name (see: symphony recipes) or a YAML file",
            autocompletion=complete_recipe,
        ),
    ],
    settings: Settings = None,
    network: OnNetwork = None,
    in_process: InProcess = False,
    run_dir: Annotated[
        str | None,
        typer.Option(
            "--run-dir",
            metavar="DIR",
            help="folder of the run (default: a new one under ~/.symphony-fl/runs)",
        ),
    ] = None,
    json_file: ResultFile = None,
) -> int:
    """One recipe, start to end."""
    checked = _checked(recipe, settings or (), alone=network is None, in_process=in_process)
    from symphony_fl.config.recipe import RecipeError
    from symphony_fl.launch.flower import new_run_folder

    _check_writable(json_file)
    folder = new_run_folder(checked) if run_dir is None else Path(run_dir).expanduser().resolve()
    if (folder / "recipe.json").exists():
        raise RecipeError(
            f"--run-dir {folder}: holds a run already; go on with it by: symphony resume {folder}"
        )
    return _run_one(checked, folder, network, in_process, json_file)


def resume(
    run_folder: Annotated[str, typer.Argument(metavar="DIR", help="the folder of the run")],
    network: OnNetwork = None,
    in_process: InProcess = False,
    json_file: ResultFile = None,
) -> int:
    """Go on with a run that was stopped, from its agents' homes."""
    from symphony_fl.config.recipe import RecipeError

    folder = Path(run_folder).expanduser().resolve()
    if not (folder / "recipe.json").is_file():
        raise RecipeError(f"{folder}: holds no run (no recipe.json)")
    _check_writable(json_file)
    recipe = _checked(str(folder / "recipe.json"), (), alone=network is None, in_process=in_process)
    return _run_one(recipe, folder, network, in_process, json_file)


def compare(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RECIPE|key=value]...",
            help="recipes; changes hold for each of them",
            show_default=False,
            autocompletion=complete_word,
        ),
    ] = None,
    seeds: Annotated[
        list[int] | None,
        typer.Option("--seeds", metavar="SEED...", help="default: 0; with --from-mlflow: all there are"),
    ] = None,
    in_process: InProcess = False,
    json_file: ResultFile = None,
    from_mlflow: Annotated[
        bool, typer.Option("--from-mlflow", help="start nothing: compare runs of the tracking store")
    ] = False,
    uri: StoreUri = None,
    experiment: StoreExperiment = EXPERIMENT,
    out: PageFile = None,
) -> int:
    """The same work under several recipes and seeds, one after the other; --from-mlflow: of runs that are done."""
    from symphony_fl.config.recipe import RecipeError

    names = [word for word in words or () if "=" not in word]
    settings = [word for word in words or () if "=" in word]
    if out and not from_mlflow:
        raise RecipeError(f"--out {out}: needs --from-mlflow")
    if from_mlflow:
        from symphony_fl.cli.compare import Store, export

        return export(Store(uri, experiment), out, json_file, names, settings, seeds or ())
    if not names:
        raise RecipeError("compare: name at least one recipe")
    recipes = [
        _checked(name, [*settings, f"seed={seed}"], alone=True, in_process=in_process)
        for seed in (seeds or [0])
        for name in names
    ]
    from symphony_fl.cli.watched import run_each, runtime_of
    from symphony_fl.reports.tables import comparison_table, ways

    _check_writable(json_file)
    rows: list[dict[str, Any]] = []
    for _, row in run_each([(recipe.name, recipe) for recipe in recipes], runtime_of(in_process)):
        rows.append(row)
        _write_json(json_file, {"runs": rows})  # what is done is kept, whatever comes next
    print(comparison_table(rows) + f"\n\n  run {ways(rows)}")
    return 0 if all(row["status"] == "completed" for row in rows) else 1


def frontier(
    points: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[POINT]...",
            help='e.g. "default exchange.selection.density=0.1" (default: a grid of them)',
            show_default=False,
        ),
    ] = None,
    seeds: Annotated[
        list[int], typer.Option("--seeds", metavar="SEED...", help="seeds of every point")
    ] = list(DEFAULT_SEEDS),  # noqa: B006 typer copies it
    in_process: InProcess = False,
    json_file: Annotated[
        str | None,
        typer.Option(
            "--json",
            metavar="FILE",
            help="results, kept from run to run (default: ~/.symphony-fl/frontier.json)",
        ),
    ] = None,
) -> int:
    """Accuracy against bytes over many settings of the exchange; rows already in --json FILE are not run again."""
    from symphony_fl.cli.watched import run_each, runtime_of
    from symphony_fl.experiment import frontier as grid
    from symphony_fl.reports.tables import ways
    from symphony_fl.storage.folders import default_tracking_uri, symphony_folder
    from symphony_fl.tracking.mlflow_store import log_summary

    file = Path(json_file).expanduser() if json_file else symphony_folder() / "frontier.json"
    _check_writable(str(file.with_suffix(".md")))
    rows: list[dict[str, Any]] = json.loads(file.read_text())["runs"] if file.exists() else []
    wanted = grid.wanted(points or list(grid.POINTS), seeds)
    for point, row in run_each(grid.still_to_run(wanted, rows), runtime_of(in_process)):
        rows.append({"point": point} | row)
        _write_json(str(file), {"runs": rows})
    done = grid.finished(wanted, rows)
    found = grid.figures(done)
    table = f"{grid.frontier_table(found)}\n\nRun {ways(done)}."
    print(table)
    file.with_suffix(".md").write_text(table + "\n")
    picture = grid.plot_frontier(found, file.with_suffix(".png"))
    log_summary(default_tracking_uri(), "frontier", [picture, file.with_suffix(".md"), file])
    return 1 if grid.still_to_run(wanted, rows) else 0


def experiment(
    name: Annotated[Literal["paper"], typer.Argument(help="paper: the paper's section 6")],
    paradigms: Annotated[
        list[str] | None,
        typer.Option("--paradigms", metavar="RECIPE...", help="only these of the paradigms (default: all)"),
    ] = None,
    model: Annotated[
        str,
        typer.Option("--model", metavar="RECIPE", help="tinyllama, mistral7b, phi2, smollm2: on that model"),
    ] = "tiny",
    seeds: Annotated[
        list[int] | None,
        typer.Option("--seeds", metavar="SEED...", help="default: 0 1 2; with --quick: 0 1"),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="minutes: does everything work? Not who is better")
    ] = False,
    folder: Annotated[
        str | None,
        typer.Option("--folder", metavar="DIR", help="runs and report (default: under ~/.symphony-fl)"),
    ] = None,
    parallel: Annotated[
        int | None,
        typer.Option("--parallel", metavar="N", help="runs at once (default: what cores allow)"),
    ] = None,
    in_process: InProcess = False,
    readme: Annotated[
        str | None,
        typer.Option(
            "--readme",
            metavar="FILE",
            help="put the main tables between this file's paper-tables marks",
        ),
    ] = None,
) -> int:
    """The paper's experiments: paradigms x seeds, resumable, and a report of them."""
    from symphony_fl.cli.experiment import Asked, paper
    from symphony_fl.cli.watched import runtime_of

    return paper(
        Asked(paradigms or (), model, seeds or (), quick, folder, parallel, readme, runtime_of(in_process))
    )


def bench(
    part: Annotated[
        Literal["exchange", "learn", "relay"],
        typer.Argument(help="relay: rounds per second and server memory against the number of agents"),
    ],
    json_file: ResultFile = None,
) -> int:
    """Measure a part of the system on this machine."""
    _check_writable(json_file)
    figures = _measure(part)
    text = json.dumps(figures, indent=2)
    print(text)
    if json_file:
        Path(json_file).expanduser().write_text(text)
    return 0


def _measure(part: str) -> Any:
    """Imported only when asked for: benchmarks load torch, one of them TRL."""
    if part == "learn":
        from symphony_fl.benchmarks import learn

        return learn.run()
    if part == "relay":
        from symphony_fl.benchmarks import relay

        return relay.run()
    from symphony_fl.benchmarks import exchange

    return exchange.run()


def _run_one(
    recipe: Recipe, folder: Path, network: str | None, in_process: bool, json_file: str | None
) -> int:
    from symphony_fl.cli.watched import run_one, runtime_of
    from symphony_fl.reports.tables import summary_table

    result = run_one(recipe, folder, network, runtime_of(in_process))
    _write_json(json_file, result)
    print(summary_table(result))
    return 0


def _checked(name: str, overrides: Sequence[str], alone: bool, in_process: bool) -> Recipe:
    """The recipe, once everything that it names exists; what is wrong in itself is refused before much is loaded.

    `alone`: on this machine, not on the devices of a network.
    """
    from symphony_fl.config.recipe import load_recipe
    from symphony_fl.launch.feasible import check_simulated

    recipe = load_recipe(name, overrides)
    if alone:
        check_simulated(recipe, in_process)
    from symphony_fl.build.checks import check_recipe

    return check_recipe(recipe)


def _check_writable(path: str | None) -> None:
    """Refuse a --json FILE that cannot be written before hours of work, not after."""
    from symphony_fl.config.recipe import RecipeError

    if path is None:
        return
    try:
        Path(path).expanduser().parent.mkdir(parents=True, exist_ok=True)
        with Path(path).expanduser().open("a"):
            pass
    except OSError as error:
        raise RecipeError(f"--json {path}: cannot be written ({error.strerror})") from None


def _write_json(path: str | None, values: Any) -> None:
    from symphony_fl.storage.folders import write_json

    if path is None:
        return
    file = Path(path).expanduser()
    if file.exists() and not file.is_file():  # /dev/stdout must be written to, not replaced
        file.write_text(json.dumps(values, indent=2))
    else:
        write_json(file, values)
