"""`symphony experiment paper`: its runs, and the report of them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from symphony_fl.config.recipe import RecipeError
from symphony_fl.launch.feasible import check_feasible
from symphony_fl.launch.runtime import IN_PROCESS, cores
from symphony_fl.storage.folders import default_tracking_uri, symphony_folder

if TYPE_CHECKING:
    from symphony_fl.experiment.paradigms import Planned

TINY = "tiny"  # `paradigms.TINY`, which loads much
QUICK_SEEDS = (0, 1)
SEEDS = (0, 1, 2)


@dataclass(frozen=True)
class Asked:
    """What was asked for; empty or None: the usual."""

    paradigms: Sequence[str]
    model: str
    seeds: Sequence[int]
    quick: bool
    folder: str | None
    parallel: int | None
    readme: str | None
    runtime: str


def paper(asked: Asked) -> int:
    """The paper's experiments: paradigms x seeds, resumable, and a report of them."""
    from symphony_fl.experiment import report  # loads matplotlib and scipy
    from symphony_fl.experiment.paradigms import PARADIGMS, QUICK, TRACKING, plan
    from symphony_fl.experiment.runner import result_of, run_all, run_folder_of, runs_at_once
    from symphony_fl.reports.tables import ways
    from symphony_fl.tracking.mlflow_store import log_summary

    names = asked.paradigms or (QUICK if asked.quick else [item.name for item in PARADIGMS])
    seeds = _distinct(asked.seeds or (QUICK_SEEDS if asked.quick else SEEDS))
    planned = plan(list(dict.fromkeys(names)), seeds, asked.model, asked.quick)
    folder = _folder(asked)
    for item in planned:
        if result_of(folder, item) is None:
            check_feasible(item.recipe, asked.runtime == IN_PROCESS)
    if asked.readme:
        report.check_marks(Path(asked.readme))
    parallel = runs_at_once(planned, cores()) if asked.parallel is None else asked.parallel
    if parallel < 1:
        raise RecipeError(f"--parallel {parallel}: must be at least 1")
    _say(f"folder {folder}")
    failures = run_all(planned, folder, parallel, _say, asked.runtime)
    done = [item for item in planned if result_of(folder, item) is not None]
    for failure in failures:
        item = failure.planned
        print(f"symphony: {item.paradigm}, seed {item.seed}: {failure.error}", file=sys.stderr)
    if not done:
        return 1
    results = [result for item in done if (result := result_of(folder, item)) is not None]
    described = _described(asked, planned) | {"ways": ways(results)}
    written = report.write(folder, described, done, lambda item: run_folder_of(folder, item))
    if asked.readme:
        report.into_readme(Path(asked.readme), written.tables, written.source)
    log_summary(default_tracking_uri(), f"paper {asked.model}", written.files, TRACKING)
    _say(f"report {written.page}")
    return 1 if failures else 0


def _folder(asked: Asked) -> Path:
    if asked.folder:
        return Path(asked.folder).expanduser().resolve()
    name = f"paper-{asked.model}{'-quick' if asked.quick else ''}"
    return symphony_folder() / "experiments" / name


def _distinct(seeds: Sequence[int]) -> list[int]:
    if len(set(seeds)) != len(seeds):
        raise RecipeError(f"--seeds {' '.join(map(str, seeds))}: none may be named twice")
    return list(seeds)


def _described(asked: Asked, planned: Sequence[Planned]) -> dict[str, str]:
    """What was asked for, for the report: enough to ask for it again."""
    names = list(dict.fromkeys(item.paradigm for item in planned))
    seeds = list(dict.fromkeys(item.seed for item in planned))
    words = ["symphony experiment paper"]
    words += ["--paradigms", *names] if asked.paradigms else []
    words += ["--model", asked.model] if asked.model != TINY else []
    words += ["--quick"] if asked.quick else []
    words += ["--in-process"] if asked.runtime == IN_PROCESS else []
    words += ["--seeds", *map(str, seeds)]
    return {"command": " ".join(words), "quick": "yes" if asked.quick else ""}


def _say(line: str) -> None:
    print(line, flush=True)
