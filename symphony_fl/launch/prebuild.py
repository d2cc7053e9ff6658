"""Builds an embedded model that is not in the cache while Flower starts, not after the agents have started."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from symphony_fl.launch.local_superlink import APP_FOLDER, stop
from symphony_fl.launch.progress import Progress
from symphony_fl.learning.model.model_cache import models_folder

BUILT = ("tiny", "smollm2")  # models that this project builds itself
CODE = (
    "import sys; from symphony_fl.launch.watchdog import die_with_launcher; die_with_launcher(); "
    "from symphony_fl.learning.model.base_model import ensure_built; ensure_built(sys.argv[1])"
)


def missing(name: str, cache: Path | None = None) -> bool:
    """Whether no model of that name has ever been built here. Which one is wanted only torch can say."""
    found = (models_folder() if cache is None else cache).glob(f"{name}-*")
    return name in BUILT and not any(path.is_dir() for path in found)


@contextmanager
def built_meanwhile(name: str, environment: dict[str, str], progress: Progress) -> Iterator[None]:
    """The agents wait for the lock of the process that builds the model; if this process fails, one of them builds it.

    Parameters
    ----------
    name
        Of the recipe's model.
    environment
        Of the run; the builder ends with the launcher that it names.
    progress
        Told if there is something to build.
    """
    if not missing(name):
        yield
        return
    progress(f"building the model {name!r} meanwhile, once")
    process = subprocess.Popen(
        [sys.executable, "-c", CODE, name],
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
