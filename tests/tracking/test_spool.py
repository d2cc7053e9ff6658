"""What a run says to its tracking server is on disk first, in order, and survives kills at any byte."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples import examples
from symphony_fl.cli.main import main
from symphony_fl.storage.folders import locked
from symphony_fl.tracking import replay as replaying
from symphony_fl.tracking.spool import ENTRIES, STATE, Spool, SpoolError

VALUES = st.dictionaries(st.text(max_size=5), st.floats(allow_nan=False) | st.text(max_size=5), max_size=3)


@examples(30)  # the disk is synced
@given(
    entries=st.lists(VALUES, max_size=8),
    stops=st.lists(st.integers(0, 4), max_size=6),
    cut=st.integers(0, 40),
)
def test_every_entry_is_delivered_once_and_in_order_however_often_it_is_opened(
    tmp_path_factory: pytest.TempPathFactory, entries: list[dict], stops: list[int], cut: int
) -> None:
    folder = tmp_path_factory.mktemp("spool")
    spool = Spool(folder)
    for entry in entries:
        spool.append(entry)
    spool.close()
    with (folder / ENTRIES).open("ab") as file:  # an entry cut short by a kill
        file.write(b'{"x": "' + b"y" * cut)
    seen: list[dict] = []
    for stop in [*stops, len(entries)]:
        spool = Spool(folder)
        assert spool.pending == len(entries) - len(seen)
        for number, (entry, size) in enumerate(spool.waiting()):
            if number == stop:
                break
            seen.append(entry)
            spool.delivered(size)
        spool.save()
        spool.close()
    assert seen == entries and Spool(folder).pending == 0


def test_what_was_delivered_but_not_counted_comes_again(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.append({"n": 1})
    for _, size in spool.waiting():
        spool.delivered(size)
    assert spool.pending == 0
    assert [entry for entry, _ in Spool(tmp_path).waiting()] == [{"n": 1}], "killed before save"


def test_entries_are_added_while_older_ones_wait_and_state_is_kept(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.state["runs"] = {"parent": "abc"}
    spool.append({"n": 1})
    ((_entry, size),) = spool.waiting()
    spool.delivered(size)
    spool.save()
    spool.append({"n": 2})
    again = Spool(tmp_path)
    assert [entry for entry, _ in again.waiting()] == [{"n": 2}] and again.pending == 1
    assert again.state == {"runs": {"parent": "abc"}}


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        (STATE, "{}", "must hold a count"),
        (STATE, "[", "must hold a count"),
        (STATE, '{"delivered": -1, "state": {}}', "delivered = -1, must be at least 0"),
        (STATE, '{"delivered": 1, "state": {}}', "1 delivered"),
        (ENTRIES, "[1]\n", "line 1: b'\\[1\\]"),
        (ENTRIES, '{}\nx\n{"a":1}\n', "line 2"),
    ],
)
def test_files_that_are_no_spool_are_refused(tmp_path: Path, name: str, text: str, said: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(SpoolError, match=said):
        Spool(tmp_path)


def test_of_all_runs_those_are_replayed_that_can_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SYMPHONY_HOME", str(tmp_path))
    monkeypatch.setattr(replaying, "CLAIM_SECONDS", 0.1)
    for name in ("busy", "damaged", "done", "nowhere"):
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True)
        if name != "done":
            Spool(folder).append({"do": "finish"})
        (folder / ENTRIES).touch()
    (tmp_path / "runs" / "damaged" / ENTRIES).write_text("no JSON\n")
    with locked(tmp_path / "runs" / "busy" / "run.lock", 1.0, RuntimeError()):
        assert main(["replay", "all"]) == 1
    said = capsys.readouterr()
    assert "busy: another process works in this folder" in said.err and "damaged" in said.err
    assert "nowhere" in said.err and "names no tracking store" in said.err
    assert "done: 0 delivered, 0 left" in said.out
    assert main(["replay", "done"]) == 0, "by its name"
    assert main(["replay", "nothing"]) == 2


def test_an_entry_is_one_line_whatever_is_in_it(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.append({"text": "one\ntwo\r\u2028three"})
    spool.sync()
    (line,) = (tmp_path / ENTRIES).read_bytes().split(b"\n")[:-1]
    assert json.loads(line) == {"text": "one\ntwo\r\u2028three"}
