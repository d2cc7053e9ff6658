"""The figures of a run against hand-computed ones, and a history cut short by a kill."""

from __future__ import annotations

from pathlib import Path

import pytest

from symphony_fl.metrics.history import Event, History, mcnemar


def _filled(path: Path) -> History:
    history = History(path)
    for agent, (before, after) in enumerate([(0.4, 0.8), (0.2, 0.6)]):
        history.add(Event("evaluate", 0, agent, {"accuracy/mean": before}, "aa"))
        history.add(Event("train", 1, agent, {"reward/local": 0.5, "refused/replayed": 2.0}))
        history.add(
            Event("evaluate", 1, agent, {"accuracy/mean": after, "refused/replayed": 1.0}, f"b{agent}")
        )
        history.add(Event("bytes", 1, agent, {"bytes/sent": 100.0 * (agent + 1), "bytes/received": 50.0}))
    return history


def test_summary(tmp_path: Path) -> None:
    summary = _filled(tmp_path / "history.jsonl").summary(agents=2)
    assert summary["accuracy_before"] == pytest.approx(0.3)
    assert summary["accuracy_after"] == pytest.approx(0.7)
    assert summary["accuracy_min_agent"] == 0.6
    assert summary["bytes_sent_per_agent"] == 150.0
    assert summary["bytes_received_per_agent"] == 50.0
    assert summary["rounds"] == 1
    assert summary["refused"] == {"replayed": 6}
    assert summary["adapter_digests"] == {"0": "b0", "1": "b1"}


def test_mcnemar_against_the_binomial_by_hand() -> None:
    assert mcnemar("0000011", "1111111") == {"gained": 5, "lost": 0, "p_value": 2 / 32}
    found = mcnemar("0" * 7 + "1" + "01" * 20, "1" * 7 + "0" + "01" * 20)
    assert found == {"gained": 7, "lost": 1, "p_value": 2 * (1 + 8) / 256}
    assert mcnemar("0101", "0101") == {"gained": 0, "lost": 0, "p_value": 1.0}
    assert mcnemar("01", "10")["p_value"] == 1.0


def test_the_last_evaluation_is_paired_with_the_first(tmp_path: Path) -> None:
    history = History(tmp_path / "history.jsonl")
    for round, solved in ((0, "0011"), (1, "0111"), (2, "1111")):
        history.add(Event("evaluate", round, 0, {"accuracy/mean": 0.5}, solved=solved))
    history.add(Event("evaluate", 2, 1, {"accuracy/mean": 0.5}, solved="1111"))  # was not there before
    assert history.summary(agents=2)["paired"] == {"0": {"gained": 2, "lost": 0, "p_value": 0.5}}


def test_a_repeated_event_replaces_the_first(tmp_path: Path) -> None:
    history = _filled(tmp_path / "history.jsonl")
    history.add(Event("bytes", 1, 0, {"bytes/sent": 7.0}))
    assert history.total("bytes/sent") == {0: 7.0, 1: 200.0}


def test_it_is_read_back_and_a_torn_last_line_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    before = _filled(path)
    before.close()
    with path.open("a") as file:
        file.write('{"kind": "train", "rou')
    again = History(path)
    assert again.summary(2) == before.summary(2)
    again.add(Event("train", 2, 0))
    again.close()
    assert History(path).rounds("train") == [1, 2]


def test_an_empty_run_has_a_summary(tmp_path: Path) -> None:
    summary = History(tmp_path / "new" / "history.jsonl").summary(agents=2)
    assert summary["accuracy_after"] is None and summary["rounds"] == 0


def test_what_the_server_refused_is_in_the_summary_too(tmp_path: Path) -> None:
    history = History(tmp_path / "history.jsonl")
    history.add(Event("train", 1, 0, {"refused/replayed": 2.0}))
    history.add(Event("bytes", 1, 1, {"bytes/sent": 10.0, "refused/message": 1.0}))
    assert history.summary(2)["refused"] == {"message": 1, "replayed": 2}
    history.close()


def test_a_cut_line_goes_where_there_is_no_room_to_write_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a full disk leaves behind is read on a full disk: nothing that was whole leaves the file meanwhile."""
    path = tmp_path / "history.jsonl"
    _filled(path).close()
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"kind": "tra')
    monkeypatch.setattr(Path, "write_text", lambda *_, **__: pytest.fail("the file was to be written anew"))
    assert History(path).summary(agents=2)["rounds"] == 1
    assert path.read_bytes() == whole
