"""What the report says of where it ran."""

from __future__ import annotations

import subprocess
from pathlib import Path

from symphony_fl.experiment.machine import PACKAGES, commit, machine


def test_versions_processor_and_memory_are_said(tmp_path: Path) -> None:
    found = machine(tmp_path)
    assert {"date", "commit", "Python", "processor", "memory", *PACKAGES} <= found.keys()
    assert all(found.values()) and "cores" in found["processor"] and found["memory"].endswith("GiB")


def test_a_commit_with_changes_says_so(tmp_path: Path) -> None:
    assert commit(tmp_path) == "unknown (no git checkout)"
    git = ("git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b")
    (tmp_path / "file").write_text("one")
    for words in (("init", "-q"), ("add", "file"), ("commit", "-qm", "first")):
        subprocess.run([*git, *words], check=True)
    clean = commit(tmp_path)
    assert len(clean) == 12 and int(clean, 16) >= 0
    (tmp_path / "file").write_text("two")
    assert commit(tmp_path) == f"{clean} with changes"
