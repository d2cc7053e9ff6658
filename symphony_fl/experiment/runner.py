"""Run what is planned, through Flower or in-process, each run in a folder of its own that can be gone on with.

The folder of the experiment may be killed at any instant, with `kill -9` too: the same command skips what is done and
resumes what was under way (FedAvg begins anew, its state lived in the server).
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from symphony_fl.config.recipe import RecipeError
from symphony_fl.experiment.paradigms import Planned
from symphony_fl.launch.local_superlink import LaunchError
from symphony_fl.launch.runtime import FLOWER, Runner, runner
from symphony_fl.storage.folders import closed_run_folder, locked

Say = Callable[[str], None]


@dataclass(frozen=True)
class Failure:
    """A run that was not completed, and why."""

    planned: Planned
    error: str


def run_folder_of(folder: Path, planned: Planned) -> Path:
    """Where a run lies: another recipe of the same name has another folder."""
    return folder / "runs" / f"{planned.paradigm}-s{planned.seed}-{planned.recipe.digest[:8]}"


def result_of(folder: Path, planned: Planned) -> dict[str, Any] | None:
    """The result of a run that is done; None of one that is not."""
    file = run_folder_of(folder, planned) / "result.json"
    if not file.is_file():
        return None
    result: dict[str, Any] = json.loads(file.read_text())
    done = result["status"] == "completed" and result["recipe_digest"] == planned.recipe.digest
    return result if done else None


def runs_at_once(planned: Sequence[Planned], cores: int) -> int:
    """As many as there are cores for: each agent of a run is a process with one thread."""
    return max(1, cores // max(item.recipe.agents for item in planned))


def run_all(
    planned: Sequence[Planned], folder: Path, parallel: int, say: Say, runtime: str = FLOWER
) -> list[Failure]:
    """Run what is not done yet, `parallel` at a time; the runs that failed, which stop no other.

    Raises
    ------
    RecipeError
        Another process works in the folder.
    """
    closed_run_folder(folder)
    refusal = RecipeError(f"--folder {folder}: another process works in this folder")
    with locked(folder / "experiment.lock", 5.0, refusal):
        todo = [item for item in planned if result_of(folder, item) is None]
        say(f"{len(planned)} runs, {len(planned) - len(todo)} of them done before, {parallel} at a time")
        if not todo:
            return []
        # The SuperLink, or what runs in-process, stops first: what still runs then ends, and is waited for.
        with ThreadPoolExecutor(parallel) as pool, runner(runtime) as run_it:
            try:
                return _watch(run_it, pool, todo, folder, say)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise


def _watch(
    run_it: Runner, pool: ThreadPoolExecutor, todo: Sequence[Planned], folder: Path, say: Say
) -> list[Failure]:
    started = time.monotonic()
    failures: list[Failure] = []
    futures = {pool.submit(_run_one, run_it, item, folder, say): item for item in todo}
    for number, future in enumerate(as_completed(futures), start=1):
        item, error = futures[future], future.result()
        if error:
            failures.append(Failure(item, error))
        elapsed = time.monotonic() - started
        left = elapsed / number * (len(todo) - number) / 60
        state = f"failed: {error}" if error else "done"
        say(f"[{number}/{len(todo)}] {_name(item)}: {state}; {elapsed / 60:.1f} min, about {left:.0f} to go")
    return failures


def _run_one(run_it: Runner, planned: Planned, folder: Path, say: Say) -> str:
    """Run or resume one; empty, or why it failed."""
    where = run_folder_of(folder, planned)
    if planned.recipe.strategy.name == "fedavg" and where.exists():
        shutil.rmtree(where)
    try:
        run_it(planned.recipe, where, lambda line: say(f"  {_name(planned)}: {line}"))
    except LaunchError as error:
        return str(error)
    return ""


def _name(planned: Planned) -> str:
    return f"{planned.paradigm}, seed {planned.seed}"
