"""An MLflow store without runs. MLflow takes seconds to make one, so a test session makes one and copies it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from filelock import FileLock
from mlflow import MlflowClient


def new_store(factory: pytest.TempPathFactory, path: Path) -> None:
    """Put one at `path`, for its owner alone."""
    root = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent  # all workers of the session share it
    template = root / "mlflow-template.db"
    with FileLock(root / "mlflow-template.lock"):
        if not template.exists():
            making = template.with_suffix(".making")
            MlflowClient(tracking_uri=f"sqlite:///{making}").search_experiments()
            making.rename(template)
    shutil.copyfile(template, path)
    path.chmod(0o600)
