"""Real processes under the supervisor: what dies or hangs is started again, and everything stops when told."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from symphony_fl.edge import supervisor
from symphony_fl.edge.supervisor import Program, Supervisor, Unit

SLEEPER = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(600)"]
STUBBORN = [
    sys.executable,
    "-c",
    "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(600)",
]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "FIRST_PAUSE", 0.1)
    monkeypatch.setattr(supervisor, "TICK", 0.02)


def _supervise(folder: Path, units: list[Unit], plot: Callable[[], None]) -> list[str]:
    """Run until `plot`, in its own thread, is through; then SIGTERM. What was said."""
    said: list[str] = []
    failures: list[BaseException] = []

    def act() -> None:
        try:
            plot()
        except BaseException as error:
            failures.append(error)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)

    actor = threading.Thread(target=act)
    actor.start()
    Supervisor(os.environ, folder, folder, said.append).run(units)
    actor.join()
    if failures:
        raise failures[0]
    return said


def _until(ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not ready():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _pids(unit: Unit) -> list[int]:
    return [process.pid for _, process in unit.running]


def _gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_a_unit_starts_anew_as_a_whole_when_one_of_its_programs_dies(tmp_path: Path) -> None:
    unit = Unit(
        "pair", lambda: [Program("a", SLEEPER, lambda tail: f"said {tail.strip()}"), Program("b", SLEEPER)]
    )
    other = Unit("other", lambda: [Program("c", SLEEPER)])

    def plot() -> None:
        _until(lambda: len(unit.running) == 2 and (tmp_path / "a.log").stat().st_size > 0)
        first = _pids(unit)
        os.kill(first[0], signal.SIGKILL)
        _until(lambda: unit.starts == 2 and len(unit.running) == 2)
        assert all(map(_gone, first)) and not set(first) & set(_pids(unit))

    said = _supervise(tmp_path, [unit, other], plot)
    assert said == ["a ended (signal 9); again in 0.1 s"]
    assert other.starts == 1
    assert all(map(_gone, _pids(unit) + _pids(other))), "all are stopped at the end"


def test_pauses_double_up_to_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "LONGEST_PAUSE", 0.3)
    dying = [sys.executable, "-c", "print('\\x1b[91mno luck\\x1b[0m', flush=True); raise SystemExit(3)"]
    unit = Unit("hopeless", lambda: [Program("x", dying, lambda tail: tail.strip().splitlines()[-1])])
    said = _supervise(tmp_path, [unit], lambda: _until(lambda: unit.starts >= 5))
    assert [line.rpartition("again in ")[2] for line in said[:4]] == ["0.1 s", "0.2 s", "0.3 s", "0.3 s"]
    assert all("x ended (status 3); no luck;" in line for line in said)


def test_a_program_that_hangs_is_killed_and_started_again(tmp_path: Path) -> None:
    answers = [True, True, False, False, False]
    program = Program("h", SLEEPER, healthy=lambda: answers.pop(0) if answers else True)
    unit = Unit("hanging", lambda: [program], patience=0.05)
    said = _supervise(tmp_path, [unit], lambda: _until(lambda: unit.starts == 2))
    assert said[0] == "h does not answer: killed" and "signal 9" in said[1]


def test_a_program_still_coming_up_is_not_taken_for_hanging(tmp_path: Path) -> None:
    asked: list[bool] = []
    program = Program("slow", SLEEPER, healthy=lambda: asked.append(False) or len(asked) > 8)  # type: ignore[func-returns-value]
    unit = Unit("slow", lambda: [program], patience=0.02, grace=30)
    assert _supervise(tmp_path, [unit], lambda: _until(lambda: len(asked) > 12)) == []
    assert unit.starts == 1


def test_who_ignores_sigterm_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "STOP_SECONDS", 0.2)
    unit = Unit("stubborn", lambda: [Program("s", STUBBORN)])
    log = tmp_path / "s.log"
    _supervise(tmp_path, [unit], lambda: _until(lambda: log.exists() and log.stat().st_size > 0))
    assert all(map(_gone, _pids(unit)))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_what_cannot_be_started_is_tried_again(tmp_path: Path) -> None:
    places = ["/dev/full", "/dev/full", os.devnull]

    def programs() -> list[Program]:
        with open(places.pop(0), "w") as file:  # such as a secret, on a disk that is full
            file.write("secret")
        return [Program("p", SLEEPER)]

    unit = Unit("full", programs)
    said = _supervise(tmp_path, [unit], lambda: _until(lambda: unit.starts == 1 and bool(unit.running)))
    assert len(said) == 2 and all(line.startswith("full cannot be started ([Errno 28]") for line in said)


def test_a_log_that_grows_is_cut_while_its_program_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "MAX_LOG", 2000)
    chatter = "import time\nfor n in range(100000): print(n, 'x' * 90, flush=True); time.sleep(0.002)"
    unit = Unit("a", lambda: [Program("a", [sys.executable, "-c", chatter])], patience=0.05)
    log, last = tmp_path / "a.log", tmp_path / "a.log.1"

    def plot() -> None:
        _until(lambda: last.exists() and last.stat().st_size > 2000)
        first = last.read_text()
        _until(lambda: last.exists() and last.read_text()[:1] not in ("", first[:1]))
        assert log.stat().st_size < 200_000 and b"\0" not in log.read_bytes(), (
            "it writes on where the file ends"
        )

    assert _supervise(tmp_path, [unit], plot) == [] and unit.starts == 1


def test_who_fails_for_days_is_still_started_again(tmp_path: Path) -> None:
    unit = Unit("a", lambda: [])
    keeper = Supervisor(os.environ, tmp_path, tmp_path, print)
    for _ in range(3000):
        pause = keeper._put_off(unit, 0.0)
    assert pause == supervisor.LONGEST_PAUSE
