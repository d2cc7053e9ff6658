"""MLflow stores for tests. Making the tables takes seconds: they are made once per process and copied."""

from __future__ import annotations

import shutil
import tempfile
from functools import cache
from pathlib import Path

from mlflow import MlflowClient


def empty_store(folder: Path) -> str:
    """The URI of a new SQLite store in that folder."""
    file = folder / "mlflow.db"
    shutil.copyfile(Path(_template().name) / file.name, file)
    return f"sqlite:///{file}"


@cache
def _template() -> tempfile.TemporaryDirectory[str]:
    folder = tempfile.TemporaryDirectory()
    MlflowClient(tracking_uri=f"sqlite:///{folder.name}/mlflow.db").search_experiments()
    return folder
