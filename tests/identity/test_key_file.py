"""The identity on disk: made once, private or refused, changed by one rename."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from symphony_fl.cli.main import main
from symphony_fl.identity.key_file import KeyFileError, open_key_file, rotate_key
from symphony_fl.identity.rotation import MAX_ROTATIONS, ROTATION_BYTES, follow, read_rotations


def test_a_key_is_made_once_and_private(tmp_path: Path) -> None:
    first = open_key_file(tmp_path / "key")
    assert open_key_file(tmp_path / "key") == first and first.rotations == b""
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o610, 0o666])
def test_a_key_that_others_may_use_is_refused(tmp_path: Path, mode: int) -> None:
    open_key_file(tmp_path / "key")
    (tmp_path / "key").chmod(mode)
    with pytest.raises(KeyFileError, match=rf"key: mode 0{mode:o}, others may use this secret: chmod 600"):
        open_key_file(tmp_path / "key")


def test_a_key_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_key_file(tmp_path / "key")
    owner = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: owner + 1)
    with pytest.raises(KeyFileError, match=f"belongs to user {owner}, must be ours"):
        open_key_file(tmp_path / "key")


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777])
def test_a_key_that_others_may_replace_is_refused(tmp_path: Path, mode: int) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    home.chmod(mode)
    with pytest.raises(KeyFileError, match=f"home: mode 0{mode:o}, others may replace"):
        open_key_file(home / "key")
    assert not (home / "key").exists()


@pytest.mark.parametrize("size", [0, 31, 33, 32 + ROTATION_BYTES - 1])
def test_a_damaged_file_is_refused(tmp_path: Path, size: int) -> None:
    (tmp_path / "key").write_bytes(bytes(size))
    (tmp_path / "key").chmod(0o600)
    with pytest.raises(KeyFileError, match=f"{size} bytes, must be a key of 32"):
        open_key_file(tmp_path / "key")


def test_rotations_lead_from_the_first_key_to_the_present_one(tmp_path: Path) -> None:
    first = open_key_file(tmp_path / "key")
    dids = [rotate_key(tmp_path / "key").did for _ in range(3)]
    now = open_key_file(tmp_path / "key")
    assert now.did == dids[-1] and len({first.did, *dids}) == 4
    chain = follow(first.did, read_rotations(now.rotations))
    assert [step.new for step in chain] == dids and [step.counter for step in chain] == [1, 2, 3]
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600
    assert first.private_key not in (tmp_path / "key").read_bytes()


def test_rotations_are_bounded(tmp_path: Path) -> None:
    first = open_key_file(tmp_path / "key")
    for _ in range(MAX_ROTATIONS):
        rotate_key(tmp_path / "key")
    with pytest.raises(KeyFileError, match="at most 64"):
        rotate_key(tmp_path / "key")
    assert len(follow(first.did, read_rotations(open_key_file(tmp_path / "key").rotations))) == MAX_ROTATIONS


def test_the_command_prints_and_changes_the_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = tmp_path / "home"
    assert main(["key", str(home)]) == 0 and main(["key", str(home)]) == 0
    assert main(["key", str(home), "--rotate"]) == 0
    first, again, changed = capsys.readouterr().out.split()
    assert first == again != changed == open_key_file(home / "key").did
    (home / "key").chmod(0o644)
    assert main(["key", str(home)]) == 2
    assert "chmod 600" in capsys.readouterr().err
