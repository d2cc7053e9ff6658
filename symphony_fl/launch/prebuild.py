"""A model or common start that is not in the cache is built while Flower starts, not after the agents have."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from symphony_fl.build.learners import recipe_policy, recipe_start, start_name
from symphony_fl.config.options import Recipe
from symphony_fl.config.recipe import recipe_from_json
from symphony_fl.launch.local_superlink import APP_FOLDER, stop
from symphony_fl.launch.progress import Progress
from symphony_fl.learning.model.model_cache import models_folder

BUILT = ("tiny", "smollm2")  # models that this project builds itself
CODE = (
    "import sys; from symphony_fl.launch.watchdog import die_with_launcher; die_with_launcher(); "
    "from symphony_fl.launch.prebuild import build; build(sys.argv[1])"
)


def missing(name: str, cache: Path | None = None) -> bool:
    """Whether no model of that name has ever been built here. Which one is wanted only torch can say."""
    return name in BUILT and _no_folder(name, cache)


def missing_start(recipe: Recipe, cache: Path | None = None) -> bool:
    """The same of the adapter that the agents of a recipe begin with, where they are taught one."""
    name = start_name(recipe)
    return bool(name) and recipe.model.device == "cpu" and _no_folder(name, cache)


def build(recipe_json: str) -> None:
    """What is missing of this recipe, whole or not at all."""
    from symphony_fl.learning.model.base_model import ensure_built  # loads torch

    recipe = recipe_from_json(recipe_json, files=True)
    ensure_built(recipe.model.name)
    if missing_start(recipe):
        recipe_start(recipe, recipe_policy(recipe))


@contextmanager
def built_meanwhile(recipe: Recipe, environment: dict[str, str], progress: Progress) -> Iterator[None]:
    """The agents, who need what is built, wait for the lock of its builder; if this process fails, one of them does it.

    Parameters
    ----------
    recipe
        Of the run.
    environment
        Of the run; the builder ends with the launcher that it names.
    progress
        Told if there is something to build.
    """
    parts = [f"the model {recipe.model.name!r}"] if missing(recipe.model.name) else []
    parts += ["the common start"] if missing_start(recipe) else []
    if not parts:
        yield
        return
    progress(f"building {' and '.join(parts)} meanwhile, once")
    process = subprocess.Popen(
        [sys.executable, "-c", CODE, recipe.to_json()],
        env={**os.environ, **environment},
        cwd=APP_FOLDER,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield
    finally:
        stop(process)


def _no_folder(name: str, cache: Path | None) -> bool:
    found = (models_folder() if cache is None else cache).glob(f"{name}-*")
    return not any(path.is_dir() for path in found)
