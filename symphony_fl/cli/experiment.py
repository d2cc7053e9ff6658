"""The command `symphony experiment paper`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from symphony_fl.config.recipe import RecipeError
from symphony_fl.launch.runtime import IN_PROCESS, add_in_process, cores
from symphony_fl.storage.folders import default_tracking_uri, symphony_folder

if TYPE_CHECKING:
    from symphony_fl.experiment.paradigms import Planned

Commands = Callable[[str, Callable[[argparse.Namespace], int]], argparse.ArgumentParser]
TINY = "tiny"  # `paradigms.TINY`, which loads much
QUICK_SEEDS = (0, 1)
SEEDS = (0, 1, 2)


def add_command(command: Commands) -> None:
    """`symphony experiment` among the others."""
    sub = command("experiment", experiment)
    sub.add_argument("name", choices=("paper",), help="paper: the paper's section 6")
    sub.add_argument(
        "--paradigms", metavar="RECIPE", nargs="+", help="only these of the paradigms (default: all)"
    )
    sub.add_argument(
        "--model", metavar="RECIPE", default=TINY, help="tinyllama, mistral7b, phi2, smollm2: on that model"
    )
    sub.add_argument("--seeds", metavar="SEED", nargs="+", type=int, help="default: 0 1 2")
    sub.add_argument("--quick", action="store_true", help="minutes: does everything work? Not who is better")
    sub.add_argument("--folder", metavar="DIR", help="runs and report (default: under ~/.symphony-fl)")
    sub.add_argument("--parallel", metavar="N", type=int, help="runs at once (default: what cores allow)")
    add_in_process(sub)
    sub.add_argument(
        "--readme", metavar="FILE", help="put the main tables between this file's paper-tables marks"
    )


def experiment(options: argparse.Namespace) -> int:
    """The paper's experiments: paradigms x seeds, resumable, and a report of them."""
    from symphony_fl.experiment import report  # loads matplotlib and scipy
    from symphony_fl.experiment.paradigms import PARADIGMS, QUICK, TRACKING, plan
    from symphony_fl.experiment.runner import result_of, run_all, run_folder_of, runs_at_once
    from symphony_fl.reports.tables import ways
    from symphony_fl.tracking.mlflow_store import log_summary

    names = options.paradigms or (QUICK if options.quick else [item.name for item in PARADIGMS])
    seeds = _distinct(options.seeds or (QUICK_SEEDS if options.quick else SEEDS))
    planned = plan(list(dict.fromkeys(names)), seeds, options.model, options.quick)
    folder = _folder(options)
    if options.readme:
        report.check_marks(Path(options.readme))
    parallel = runs_at_once(planned, cores()) if options.parallel is None else options.parallel
    if parallel < 1:
        raise RecipeError(f"--parallel {parallel}: must be at least 1")
    _say(f"folder {folder}")
    failures = run_all(planned, folder, parallel, _say, options.runtime)
    done = [item for item in planned if result_of(folder, item) is not None]
    for failure in failures:
        item = failure.planned
        print(f"symphony: {item.paradigm}, seed {item.seed}: {failure.error}", file=sys.stderr)
    if not done:
        return 1
    results = [result for item in done if (result := result_of(folder, item)) is not None]
    asked = _described(options, planned) | {"ways": ways(results)}
    written = report.write(folder, asked, done, lambda item: run_folder_of(folder, item))
    if options.readme:
        report.into_readme(Path(options.readme), written.tables, written.source)
    log_summary(default_tracking_uri(), f"paper {options.model}", written.files, TRACKING)
    _say(f"report {written.page}")
    return 1 if failures else 0


def _folder(options: argparse.Namespace) -> Path:
    if options.folder:
        return Path(options.folder).expanduser().resolve()
    name = f"paper-{options.model}{'-quick' if options.quick else ''}"
    return symphony_folder() / "experiments" / name


def _distinct(seeds: Sequence[int]) -> list[int]:
    if len(set(seeds)) != len(seeds):
        raise RecipeError(f"--seeds {' '.join(map(str, seeds))}: none may be named twice")
    return list(seeds)


def _described(options: argparse.Namespace, planned: Sequence[Planned]) -> dict[str, str]:
    """What was asked for, for the report: enough to ask for it again."""
    names = list(dict.fromkeys(item.paradigm for item in planned))
    seeds = list(dict.fromkeys(item.seed for item in planned))
    words = ["symphony experiment paper"]
    words += ["--paradigms", *names] if options.paradigms else []
    words += ["--model", options.model] if options.model != TINY else []
    words += ["--quick"] if options.quick else []
    words += ["--in-process"] if options.runtime == IN_PROCESS else []
    words += ["--seeds", *map(str, seeds)]
    return {"command": " ".join(words), "quick": "yes" if options.quick else ""}


def _say(line: str) -> None:
    print(line, flush=True)
