"""Run recipes through real `flwr run`, on a SuperLink of our own (`local_superlink.py`) or on a network's."""

from __future__ import annotations

import json
import secrets
import subprocess
import time
from pathlib import Path
from typing import Any

from symphony_fl.config.options import Recipe
from symphony_fl.config.plugins import FILE
from symphony_fl.config.recipe import RecipeError
from symphony_fl.launch.failure_causes import RAY_LATE, cause
from symphony_fl.launch.local_superlink import (
    APP_FOLDER,
    STOP_SECONDS,
    LaunchError,
    SuperLink,
)
from symphony_fl.launch.prebuild import built_meanwhile
from symphony_fl.launch.progress import Progress, Step, Steps, no_steps, pass_on
from symphony_fl.launch.staging import staged
from symphony_fl.storage.folders import (
    closed_run_folder,
    private_opener,
    safe_name,
    symphony_folder,
    write_atomically,
)

LOG = "flower.log"  # in the run's folder
RETRY_SECONDS = 2.0  # between two attempts at a SuperLink that is away
NO_LOG = ("╭", "│", "╰")  # the box in which flwr tells an error of its own
COMPLETED = "finished:completed"


def run_recipe(
    link: SuperLink,
    recipe: Recipe,
    folder: Path,
    progress: Progress,
    app: Path = APP_FOLDER,
    steps: Steps = no_steps,
) -> dict[str, Any]:
    """One run of a checked recipe in `folder`, new or to be resumed; its result as the ServerApp wrote it.

    `app` is the checkout that is bundled and run. A simulation whose Ray did not start in time is started once more:
    on a busy machine Ray gives up on a process of its own that would have been there a moment later.

    Raises
    ------
    LaunchError
        Flower did not finish the run as completed.
    RecipeError
        The folder holds a run of another recipe, or devices cannot do what this one asks for.
    """
    if link.connection is not None and recipe.agents_per_node > 1:
        raise RecipeError(f"agents_per_node = {recipe.agents_per_node}: must be 1 on a network of devices")
    if link.connection is not None and any(entry.startswith(FILE) for entry in recipe.plugins):
        raise RecipeError(
            "plugins: must be [] on a network: a device loads no code that a recipe names; install it there"
        )
    if link.connection is not None:
        status, why = _run_once(link, recipe, folder, progress, app, steps)
    else:
        with built_meanwhile(recipe, link.environment, progress):
            status, why = _run_once(link, recipe, folder, progress, app, steps)
            if RAY_LATE in why:
                progress(f"{why[:200]}; starting the run once more")
                status, why = _run_once(link, recipe, folder, progress, app, steps)
    result_file = folder / "result.json"
    if status != COMPLETED or not result_file.exists():
        raise LaunchError(f"run ended as {status}; {why}; log: {folder / LOG}")
    result: dict[str, Any] = json.loads(result_file.read_text())
    return result


def _run_once(
    link: SuperLink, recipe: Recipe, folder: Path, progress: Progress, app: Path, steps: Steps
) -> tuple[str, str]:
    """(Flower's final word on the run, why it failed if it did)."""
    recipe_file = prepare_folder(recipe, folder)
    log = folder / LOG
    before = log.stat().st_size if log.exists() else 0
    steps(Step("app"))
    run_id = _start(link, recipe, recipe_file, folder, app)
    steps(Step("simulation" if link.connection is None else "serverapp"))
    lines = _follow(link, run_id, log, progress, steps, 0)
    if link.connection is None and _completed(folder):  # the log of a simulation ends with it
        return COMPLETED, ""
    status = _status(link, run_id)
    while link.connection is not None and not status.startswith(
        "finished"
    ):  # a network's SuperLink may be away
        time.sleep(RETRY_SECONDS)
        lines = _follow(link, run_id, log, progress, steps, lines)
        status = _status(link, run_id)
    return status, "" if status == COMPLETED else last_error(log, before)


def prepare_folder(recipe: Recipe, folder: Path) -> Path:
    """The file of the recipe in the run's folder, new or to be resumed; the result of an earlier start is removed.

    Raises
    ------
    RecipeError
        The folder holds a run of another recipe.
    """
    closed_run_folder(folder)
    recipe_file = folder / "recipe.json"
    if not recipe_file.exists():
        write_atomically(recipe_file, recipe.to_json().encode())
    elif recipe_file.read_text() != recipe.to_json():
        raise RecipeError(f"run-dir = {str(folder)!r}: holds a run of another recipe")
    (folder / "result.json").unlink(missing_ok=True)
    return recipe_file


def new_run_folder(recipe: Recipe) -> Path:
    """A fresh folder under the Symphony folder, named for people."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    return (
        symphony_folder() / "runs" / f"{safe_name(recipe.name)}-s{recipe.seed}-{stamp}-{secrets.token_hex(2)}"
    )


def _start(link: SuperLink, recipe: Recipe, recipe_file: Path, folder: Path, app: Path) -> int:
    run_config = {"recipe": str(recipe_file), "overrides": "", "run-dir": str(folder)}
    # TOML's basic strings are JSON's.
    config = " ".join(f"{key}={json.dumps(value)}" for key, value in run_config.items())
    options = ["--format", "json", "--run-config", config]
    if link.connection is None:
        federation = (
            f"num-supernodes={-(-recipe.agents // recipe.agents_per_node)} client-resources-num-cpus=1"
        )
        if recipe.limits.at_once:
            federation += f" init-args-num-cpus={recipe.limits.at_once}"
        if recipe.model.device.startswith("cuda"):
            federation += " client-resources-num-gpus=0.1"
        options += ["--federation-config", federation]
    with staged(app) as copy:
        done = _flwr(link, ["flwr", "run", str(copy), *_named(link), *options])
    answer = _json_in(done.stdout)
    if not answer.get("success"):
        raise LaunchError(
            f"flwr run refused: {answer.get('error-message') or done.stderr.strip() or done.stdout.strip()}"
        )
    return int(answer["run-id"])


def _follow(link: SuperLink, run_id: int, log: Path, progress: Progress, steps: Steps, seen: int) -> int:
    """Stream the run's log into a file until the run ends; what is meant for people goes to `progress` and `steps`.

    Flower tells a log from its beginning: the first `seen` lines were here before. Returns how many have been now.
    """
    count = 0
    command = ["flwr", "log", str(run_id), *_named(link)]
    with (
        open(log, "a", encoding="utf-8", opener=private_opener) as file,
        subprocess.Popen(
            command,
            env=link.environment,
            cwd=APP_FOLDER,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as stream,
    ):
        assert stream.stdout is not None
        for line in stream.stdout:
            if (
                line.startswith(NO_LOG) or "Connection attempt failed" in line
            ):  # what `flwr log` says about itself
                continue
            count += 1
            if count <= seen:
                continue
            file.write(line)
            file.flush()
            pass_on(line, progress, steps)
    return max(seen, count)


def _completed(folder: Path) -> bool:
    """Whether the ServerApp has come to its end, at which it writes the result; what is left of an earlier start was
    removed. Asking Flower takes a process that loads all of its command line."""
    try:
        return bool(json.loads((folder / "result.json").read_text())["status"] == "completed")
    except FileNotFoundError:
        return False


def _status(link: SuperLink, run_id: int) -> str:
    """Flower's final word: the exit status of `flwr run --stream` is 0 even for a failed run."""
    deadline = time.monotonic() + STOP_SECONDS
    while True:
        listed = _json_in(
            _flwr(link, ["flwr", "list", *_named(link), "--run-id", str(run_id), "--format", "json"]).stdout
        )
        runs = listed.get("runs") or [{}]
        status = str(runs[0].get("status", "unknown"))
        if status.startswith("finished") or time.monotonic() > deadline:
            return status
        time.sleep(0.5)


def _named(link: SuperLink) -> list[str]:
    return [] if link.connection is None else [link.connection]


def _flwr(link: SuperLink, command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        env=link.environment,
        cwd=APP_FOLDER,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def _json_in(text: str) -> dict[str, Any]:
    """flwr prints notices before its JSON."""
    start = text.find("{")
    try:
        values: dict[str, Any] = json.loads(text[start:]) if start >= 0 else {}
    except json.JSONDecodeError:
        return {}
    return values


def last_error(log: Path, before: int = 0) -> str:
    """Why the run of a log failed, for people; its first `before` bytes are of an earlier run."""
    with log.open("rb") as file:
        file.seek(before)
        return cause(file.read().decode(errors="replace"))
