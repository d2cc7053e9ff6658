"""The two ways a run can go: through Flower's processes (`flower.py`), or in one process with a pool of workers.

Both give the same adapters. In-process there is no SuperLink and no Ray, so nothing is measured of those; the program
is `strategies/in_process.py`, which is started here, never imported.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from symphony_fl.config.options import Recipe
from symphony_fl.launch.flower import last_error, prepare_folder, run_recipe
from symphony_fl.launch.local_superlink import APP_FOLDER, LaunchError, private_superlink, stop
from symphony_fl.launch.progress import Progress, Step, Steps, no_steps, pass_on
from symphony_fl.launch.watchdog import LAUNCHER
from symphony_fl.storage.folders import private_opener

FLOWER, IN_PROCESS = "flower", "in-process"
LOG = "run.log"


class Runner(Protocol):
    """One run of a checked recipe in a folder, new or to be resumed; its result. Raises LaunchError, RecipeError."""

    def __call__(
        self, recipe: Recipe, folder: Path, progress: Progress, *, steps: Steps = ...
    ) -> dict[str, Any]: ...


@contextmanager
def runner(runtime: str, steps: Steps = no_steps) -> Iterator[Runner]:
    """What runs recipes, one or several at a time, as long as this lasts; `steps` hears of its start and end."""
    if runtime == IN_PROCESS:
        local = InProcess()
        try:
            yield local.run
        finally:
            local.stop()
        return
    steps(Step("superlink"))
    with private_superlink() as link:
        yield partial(run_recipe, link)
        steps(Step("stop"))


class InProcess:
    """Runs in processes of their own, which end with us."""

    def __init__(self) -> None:
        self._running: list[subprocess.Popen[str]] = []

    def run(
        self, recipe: Recipe, folder: Path, progress: Progress, *, steps: Steps = no_steps
    ) -> dict[str, Any]:
        """One run of a checked recipe in `folder`, new or to be resumed; its result as the server's side wrote it.

        Raises
        ------
        LaunchError
            The run did not complete.
        RecipeError
            The folder holds a run of another recipe.
        """
        prepare_folder(recipe, folder)
        log = folder / LOG
        before = log.stat().st_size if log.exists() else 0
        steps(Step("processes"))
        process = _start(folder)
        self._running.append(process)
        try:
            _follow(process, log, progress, steps)
            status = process.wait()
        finally:
            stop(process)
            self._running.remove(process)
        result_file = folder / "result.json"
        if status or not result_file.exists():
            raise LaunchError(f"run ended with status {status}; {last_error(log, before)}; log: {log}")
        result: dict[str, Any] = json.loads(result_file.read_text())
        return result

    def stop(self) -> None:
        """End what other threads still run."""
        for process in list(self._running):
            stop(process)


def _start(folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "strategies.in_process", str(folder)],
        env=_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )


def _follow(process: subprocess.Popen[str], log: Path, progress: Progress, steps: Steps) -> None:
    """Put what the process says into a file; what is meant for people goes to `progress` and `steps`."""
    assert process.stdout is not None
    with open(log, "a", encoding="utf-8", opener=private_opener) as file, process.stdout:
        for line in process.stdout:
            file.write(line)
            file.flush()
            pass_on(line, progress, steps)


def cores() -> int:
    """Processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _environment() -> dict[str, str]:
    known = os.environ.get("PYTHONPATH")
    return {
        **os.environ,
        "PYTHONPATH": str(APP_FOLDER) + (os.pathsep + known if known else ""),
        # One thread per agent: two under contention were several times slower than one.
        "OMP_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONUNBUFFERED": "1",
        LAUNCHER: str(os.getpid()),
    }
