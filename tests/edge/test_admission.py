"""Keys that a network admits: files that cannot be read keep no other out and stop nothing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from symphony_fl.edge.network import Admission


def test_a_file_that_cannot_be_read_is_named_once_and_the_others_are_admitted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.pub").mkdir()
    (tmp_path / "b.pub").symlink_to(tmp_path / "nowhere")
    (tmp_path / "c.pub").write_text("a key")
    said: list[str] = []
    admission = Admission(tmp_path, dict(os.environ), said.append)
    monkeypatch.setattr("symphony_fl.edge.network.ADMIT_SECONDS", 0.0)
    asked: list[list[str]] = []

    class Registered:
        returncode = 0

        def __init__(self, command: list[str], **options: object) -> None:
            asked.append(command)

        def poll(self) -> int:
            return 0

        def communicate(self) -> tuple[str, None]:
            return "", None

    monkeypatch.setattr("symphony_fl.edge.network.subprocess.Popen", Registered)
    for _ in range(6):
        admission.look()
    assert [Path(command[3]).name for command in asked] == ["c.pub"]
    assert [line.split(":")[0] for line in said] == [
        "a.pub cannot be read",
        "b.pub cannot be read",
        "admitted c.pub",
    ]
