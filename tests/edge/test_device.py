"""A device is checked before anything starts, and its commands are refused in one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from symphony_fl.cli.main import main
from symphony_fl.edge.device import Needs, check, health
from symphony_fl.edge.status import AgentStatus, newest_run, run_status, run_table
from symphony_fl.metrics.history import Event, History
from symphony_fl.storage.private import EdgeError

UP = ("up", "--superlink", "127.0.0.1:1", "--number", "0", "--insecure", "--device")


def test_a_device_that_lacks_something_is_refused(tmp_path: Path) -> None:
    assert [line.split(":")[0] for line in check(tmp_path, Needs(0.01, 0.01))] == ["memory", "disk"]
    with pytest.raises(EdgeError, match="memory: .* GB free, at least 1e"):
        check(tmp_path, Needs(memory=1e6))
    with pytest.raises(EdgeError, match="disk: .* GB free, at least 1e"):
        check(tmp_path, Needs(disk=1e6))


def test_the_command_refuses_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tmp_path.chmod(0o755)
    assert main([*UP, str(tmp_path)]) == 2
    assert (
        capsys.readouterr().err == f"symphony: {tmp_path}: mode 0755 lets others in; chmod 700 {tmp_path}\n"
    )
    assert main(["status", "--device", str(tmp_path)]) == 2
    assert "start it by: symphony up" in capsys.readouterr().err
    assert main(["run", "smoke", "--network", str(tmp_path), "--run-dir", str(tmp_path / "run")]) == 1
    assert "no network here; start one by: symphony network" in capsys.readouterr().err
    assert main(["network", str(tmp_path / "net"), "--key", "x.key"]) == 2
    assert "give all three or none" in capsys.readouterr().err


def test_nobody_answers_where_no_agent_process_is(tmp_path: Path) -> None:
    assert health(tmp_path) is None


def _books(run: Path) -> None:
    run.mkdir(parents=True)
    history = History(run / "history.jsonl")
    for round in (1, 2):
        history.add(Event("train", round, 0, {"refused/signature": 1.0}))
        history.add(Event("bytes", round, 0, {"bytes/sent": 1500.0, "bytes/received": 500.0}))
    history.add(
        Event("bytes", 2, 0, {"bytes/sent": 1500.0, "bytes/received": 500.0})
    )  # again, after a resume
    history.add(Event("evaluate", 2, 0, {"accuracy/mean": 0.5, "accuracy/sort": 0.75, "accuracy/add": 0.25}))
    history.close()
    facts = {"did": "did:key:z6MkTail1234", "node": "7", "base": "ab", "version": "0.1.0"}
    (run / "agents.json").write_text(json.dumps({"0": facts, "1": facts}))


def test_a_run_s_books_say_who_is_there(tmp_path: Path) -> None:
    _books(tmp_path / "runs" / "a")
    run = newest_run(tmp_path / "runs")
    first, second = run_status(run)
    assert (first.round, first.sent, first.received, first.refused) == (2, 3000.0, 1000.0, 2)
    assert first.skills == {"sort": 0.75, "add": 0.25} and first.seen > 1.7e9
    assert second == AgentStatus(1, "did:key:z6MkTail1234", "0.1.0")
    with (run / "history.jsonl").open("a") as file:
        file.write('{"kind": "train", "rou')  # while the server writes
    table = run_table(run_status(run), first.seen + 5).splitlines()
    assert (
        "...Tail1234  0.1.0    2      5 s ago    3.0      1.0          2        sort 0.75, add 0.25"
        in table[1]
    )
    assert "never" in table[2]
    assert History(run / "history.jsonl").rounds("train") == [1, 2], "the times in it disturb nobody"
    with pytest.raises(EdgeError, match="no run that has begun"):
        run_status(tmp_path)
