"""Folders and files that only their owner may enter, also where an earlier version left them open."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from symphony_fl.storage.folders import (
    FolderError,
    closed_folder,
    closed_run_folder,
    default_tracking_uri,
    private_opener,
    write_atomically,
)


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_what_was_left_open_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    run = home / "runs" / "old"
    run.mkdir(parents=True)
    (run / "recipe.json").touch()
    (home / "mlflow.db").touch()
    for path, mode in {home: 0o755, run: 0o775, home / "mlflow.db": 0o644}.items():
        path.chmod(mode)
    monkeypatch.setenv("SYMPHONY_HOME", str(home))
    default_tracking_uri()
    closed_run_folder(run)
    assert (_mode(home), _mode(run), _mode(home / "mlflow.db")) == (0o700, 0o700, 0o600)


def test_a_folder_of_other_things_stays_as_open_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    tmp_path.chmod(0o755)
    assert _mode(closed_run_folder(tmp_path)) == 0o755


def test_files_are_private_under_any_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        write_atomically(tmp_path / "whole", b"x")
        with open(tmp_path / "appended", "ab", opener=private_opener):
            pass
        closed_folder(tmp_path / "folder")
    finally:
        os.umask(before)
    assert (_mode(tmp_path / "whole"), _mode(tmp_path / "appended")) == (0o600, 0o600)
    assert _mode(tmp_path / "folder") == 0o700


def test_another_users_open_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tmp_path.chmod(0o755)
    monkeypatch.setattr(os, "getuid", lambda: tmp_path.stat().st_uid + 1)
    with pytest.raises(FolderError, match="mode 0755.*chown"):
        closed_folder(tmp_path)
