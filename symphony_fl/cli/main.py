"""The `symphony` command: run, resume and compare recipes, measure the parts, open the dashboard."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from symphony_fl.cli.compare import add_store_options, compare_stored, dashboard
from symphony_fl.config.options import Recipe
from symphony_fl.config.recipe import RecipeError, load_recipe, recipe_names
from symphony_fl.launch.flower import new_run_folder
from symphony_fl.launch.local_superlink import LaunchError
from symphony_fl.launch.runtime import add_in_process
from symphony_fl.storage.folders import (
    FolderError,
    default_tracking_uri,
    keep_private,
    locked,
    symphony_folder,
    write_json,
)

INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status: 0 done, 1 a run failed, 2 the command or a recipe was refused."""
    keep_private()
    words = sys.argv[1:] if arguments is None else list(arguments)
    options = _parser(words).parse_args(words)
    command: Callable[[argparse.Namespace], int] = options.command
    try:
        return command(options)
    except LaunchError as error:
        print(f"symphony: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("symphony: interrupted", file=sys.stderr)
        return INTERRUPTED
    except (RecipeError, FolderError) as error:
        refusal: Exception = error
    except Exception as error:
        from symphony_fl.identity.key_file import KeyFileError
        from symphony_fl.storage.private import EdgeError

        if not isinstance(error, EdgeError | KeyFileError):
            raise
        refusal = error
    print(f"symphony: {refusal}", file=sys.stderr)
    return 2


def run(options: argparse.Namespace) -> int:
    """One recipe, start to end."""
    recipe = _checked(options.recipe, options.overrides)
    _check_writable(options.json)
    folder = (
        new_run_folder(recipe) if options.run_dir is None else Path(options.run_dir).expanduser().resolve()
    )
    if (folder / "recipe.json").exists():
        raise RecipeError(
            f"--run-dir {folder}: holds a run already; go on with it by: symphony resume {folder}"
        )
    return _run_one(recipe, folder, options)


def resume(options: argparse.Namespace) -> int:
    """Go on with a run that was stopped, from its agents' homes."""
    folder = Path(options.folder).expanduser().resolve()
    if not (folder / "recipe.json").is_file():
        raise RecipeError(f"{folder}: holds no run (no recipe.json)")
    _check_writable(options.json)
    return _run_one(_checked(str(folder / "recipe.json")), folder, options)


def compare(options: argparse.Namespace) -> int:
    """The same work under several recipes and seeds, one after the other; --from-mlflow: of runs that are done."""
    from symphony_fl.cli.run import run_each
    from symphony_fl.reports.tables import comparison_table, ways

    if options.from_mlflow or options.out:
        return compare_stored(options)
    names = [word for word in options.recipes if "=" not in word]
    overrides = [word for word in options.recipes if "=" in word]
    if not names:
        raise RecipeError("compare: name at least one recipe")
    recipes = [
        _checked(name, [*overrides, f"seed={seed}"]) for seed in (options.seeds or [0]) for name in names
    ]
    _check_writable(options.json)
    runs: list[dict[str, Any]] = []
    for _, row in run_each([(recipe.name, recipe) for recipe in recipes], options.runtime):
        runs.append(row)
        _write_json(options.json, {"runs": runs})  # what is done is kept, whatever comes next
    print(comparison_table(runs) + f"\n\n  run {ways(runs)}")
    return 0 if all(item["status"] == "completed" for item in runs) else 1


def frontier(options: argparse.Namespace) -> int:
    """Accuracy against bytes over many settings of the exchange; rows already in --json FILE are not run again."""
    from symphony_fl.cli.run import run_each
    from symphony_fl.experiment import frontier as grid
    from symphony_fl.reports.tables import ways
    from symphony_fl.tracking.mlflow_store import log_summary

    file = Path(options.json).expanduser() if options.json else symphony_folder() / "frontier.json"
    points = options.points or list(grid.POINTS)
    _check_writable(str(file.with_suffix(".md")))
    rows: list[dict[str, Any]] = json.loads(file.read_text())["runs"] if file.exists() else []
    wanted = grid.wanted(points, options.seeds)
    for point, row in run_each(grid.still_to_run(wanted, rows), options.runtime):
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


def bench(options: argparse.Namespace) -> int:
    """Measure a part of the system on this machine."""
    _check_writable(options.json)
    figures = _measure(options.part)
    text = json.dumps(figures, indent=2)
    print(text)
    if options.json:
        Path(options.json).expanduser().write_text(text)
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


def key(options: argparse.Namespace) -> int:
    """Print the did:key of an agent's home, made if there is none; --rotate changes its key; --accept confirms what
    is there."""
    from symphony_fl.identity.key_file import KEY_FILE, KeyFileError, open_key_file, rotate_key

    home = Path(options.home).expanduser()
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        with locked(home / "home.lock", 10.0, KeyFileError(f"{home}: another process works in this home")):
            path = home / KEY_FILE
            print((rotate_key(path) if options.rotate else open_key_file(path, accept=options.accept)).did)
    except KeyFileError as error:
        print(f"symphony: {error}", file=sys.stderr)
        return 2
    return 0


def recipes(options: argparse.Namespace) -> int:
    """List the recipes that ship with the project."""
    for name in recipe_names():
        print(f"{name:24} {load_recipe(name).description}")
    return 0


def _run_one(recipe: Recipe, folder: Path, options: argparse.Namespace) -> int:
    from symphony_fl.cli.run import run_one
    from symphony_fl.reports.tables import summary_table

    result = run_one(recipe, folder, options)
    _write_json(options.json, result)
    print(summary_table(result))
    return 0


def _checked(name: str, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe, once everything that it names exists; what is wrong in itself is refused before much is loaded."""
    recipe = load_recipe(name, overrides)
    from symphony_fl.build.checks import check_recipe

    return check_recipe(recipe)


def _check_writable(path: str | None) -> None:
    """Refuse a --json FILE that cannot be written before hours of work, not after."""
    if path is None:
        return
    try:
        Path(path).expanduser().parent.mkdir(parents=True, exist_ok=True)
        with Path(path).expanduser().open("a"):
            pass
    except OSError as error:
        raise RecipeError(f"--json {path}: cannot be written ({error.strerror})") from None


def _write_json(path: str | None, values: Any) -> None:
    if path is None:
        return
    file = Path(path).expanduser()
    if file.exists() and not file.is_file():  # /dev/stdout must be written to, not replaced
        file.write_text(json.dumps(values, indent=2))
    else:
        write_json(file, values)


def _parser(words: Sequence[str]) -> argparse.ArgumentParser:
    """Of all commands; those of other modules are declared, and their modules loaded, only where they are wanted."""
    parser = argparse.ArgumentParser(
        prog="symphony", description="Agents that teach each other by gossip, on Flower."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, function: Callable[[argparse.Namespace], int]) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=function.__doc__)
        sub.set_defaults(command=function)
        return sub

    sub = command("run", run)
    sub.add_argument("recipe", metavar="RECIPE", help="a name (see: symphony recipes) or a YAML file")
    sub.add_argument("overrides", metavar="key=value", nargs="*", help="e.g. rounds=10 topology=full")
    sub.add_argument("--json", metavar="FILE", help="write the result as JSON")
    sub.add_argument(
        "--run-dir", metavar="DIR", help="folder of the run (default: a new one under ~/.symphony-fl/runs)"
    )
    sub = command("resume", resume)
    sub.add_argument("folder", metavar="DIR", help="the folder of the run")
    sub.add_argument("--json", metavar="FILE", help="write the result as JSON")
    for sub in commands.choices.values():
        sub.add_argument("--network", metavar="DIR", help="run on the devices of this `symphony network`")
        add_in_process(sub)
    sub = command("compare", compare)
    add_in_process(sub)
    sub.add_argument("recipes", metavar="RECIPE|key=value", nargs="*", help="overrides hold for every recipe")
    sub.add_argument(
        "--seeds", metavar="SEED", nargs="+", type=int, help="default: 0; --from-mlflow: all there are"
    )
    sub.add_argument(
        "--from-mlflow", action="store_true", help="start nothing: compare runs of the tracking store"
    )
    add_store_options(sub)
    sub.add_argument("--json", metavar="FILE", help="write all results as JSON")
    sub = command("frontier", frontier)
    add_in_process(sub)
    sub.add_argument(
        "points",
        metavar="POINT",
        nargs="*",
        help='e.g. "default exchange.selection.density=0.1" (default: a grid of them)',
    )
    sub.add_argument("--seeds", metavar="SEED", nargs="+", type=int, default=[0, 1, 2])
    sub.add_argument(
        "--json", metavar="FILE", help="results, kept from run to run (default: frontier.json at home)"
    )
    sub = command("bench", bench)
    sub.add_argument("part", choices=("exchange", "learn", "relay"))
    sub.add_argument("--json", metavar="FILE", help="write the figures as JSON")
    sub = command("key", key)
    sub.add_argument("home", metavar="DIR", help="the agent's home")
    change = sub.add_mutually_exclusive_group()
    change.add_argument(
        "--rotate", action="store_true", help="the old key signs over to a fresh one, and is gone"
    )
    change.add_argument(
        "--accept",
        action="store_true",
        help="key and pins of this home are as its owner wants them, though others were here, or are gone",
    )
    command("recipes", recipes)
    sub = command("dashboard", dashboard)
    sub.add_argument(
        "words", metavar="key=value", nargs="*", help="with --out: only runs with these settings or tags"
    )
    add_store_options(sub)
    sub.add_argument("--host", default="127.0.0.1")
    sub.add_argument("--port", type=int, default=5000)
    if not words or words[0] not in commands.choices:
        _add_others(command)
    return parser


def _add_others(
    command: Callable[[str, Callable[[argparse.Namespace], int]], argparse.ArgumentParser],
) -> None:
    from symphony_fl.cli.edge import add_commands
    from symphony_fl.cli.experiment import add_command as add_experiment
    from symphony_fl.cli.timing import add_timing
    from symphony_fl.tracking.replay import add_replay

    add_experiment(command)
    add_commands(command)
    add_timing(command)
    add_replay(command)


if __name__ == "__main__":
    sys.exit(main())
