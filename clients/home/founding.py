"""What a home was founded for: one run and one recipe, which its state would be misread under any other.

founding.json = {"run": its name, "recipe_json": the recipe received, "sha256": of both}
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

from symphony_fl.errors import LocalError
from symphony_fl.storage.folders import read_file, write_atomically

FOUNDING = "founding.json"
NOT_GREETED = "run: none of that name has greeted this agent"
AGAIN = "restore it from a backup, or remove the whole home to begin this run anew"


class HomeError(LocalError, RuntimeError):
    """A home that cannot be opened; the message names the file and what is wrong."""


def found(folder: Path, run: str, recipe_json: str, *, has_state: bool) -> None:
    """Bind a home to a run and its recipe.

    Raises
    ------
    HomeError
        It was founded for another run or recipe, or has a state and what it was founded for is lost.
    """
    path = folder / FOUNDING
    founding = {"run": run, "recipe_json": recipe_json}
    if not os.path.lexists(path):
        if has_state:
            raise HomeError(f"{path}: missing, though there is a state; {AGAIN}")
        write_atomically(path, json.dumps(founding | {"sha256": _checksum(founding)}, indent=1).encode())
        return
    ours = read_founding(folder)
    if ours != founding:
        what = "another recipe" if ours["run"] == run else f"run {ours['run']!r}"
        raise HomeError(
            f"{path}: this home belongs to {what}, not to {run!r} with the recipe received",
            "run: the agent's home of that name belongs to another run or recipe",
        )


def read_founding(folder: Path) -> dict[str, str]:
    """{"run": its name, "recipe_json": the resolved recipe}.

    Raises
    ------
    HomeError
        There is none, or it is not what was written.
    """
    path = folder / FOUNDING
    if not os.path.lexists(path):
        raise HomeError(f"{path}: missing; no run has greeted this agent yet", NOT_GREETED)
    try:
        values = json.loads(read_file(path))
        founding = {name: str(values[name]) for name in ("run", "recipe_json")}
        if values["sha256"] != _checksum(founding):
            raise ValueError("its content is not what was written")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise HomeError(f"{path}: damaged ({error}); {AGAIN}") from None
    return founding


def _checksum(founding: Mapping[str, str]) -> str:
    return hashlib.sha256(json.dumps(founding, sort_keys=True).encode()).hexdigest()
