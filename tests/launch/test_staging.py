"""What `flwr run` is given to bundle."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

from flwr.cli.build import build_fab_from_disk

from symphony_fl.launch.staging import staged

ROOT = Path(__file__).resolve().parents[2]


def test_the_copy_holds_the_app_and_nothing_else(tmp_path: Path) -> None:
    with staged(ROOT) as copy:
        assert "_" not in copy.name, "Flower rejects such app folders"
        names = {path.name for path in copy.iterdir()}
        assert names == {"pyproject.toml", "LICENSE", "symphony_fl", "strategies", "clients", "recipes"}
        assert not list(copy.rglob("__pycache__"))
        assert not os.stat(copy.parent).st_mode & 0o077, "others on this machine may not change it"
        (tmp_path / "app.fab").write_bytes(build_fab_from_disk(copy))
    assert not copy.exists()
    bundled = set(zipfile.ZipFile(tmp_path / "app.fab").namelist())
    kinds = {".py", ".toml", ".md", ".yaml", ".json", ".jsonl"}
    needed = {
        path.relative_to(ROOT).as_posix()
        for package in ("symphony_fl", "strategies", "clients", "recipes")
        for path in (ROOT / package).rglob("*")
        if path.suffix in kinds
    }
    assert needed <= bundled, sorted(needed - bundled)
