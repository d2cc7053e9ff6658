"""A copy of the app that a test may change."""

from __future__ import annotations

import shutil
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def copy_checkout(folder: Path) -> Path:
    """What Flower bundles of this checkout, in a new folder."""
    folder.mkdir()
    for name in ("symphony_fl", "strategies", "clients", "recipes"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / name)
    return folder
