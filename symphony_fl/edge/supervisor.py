"""Programs started, watched, and started again when they die or hang.

Programs that belong together form a unit: when one of them ends, the others are stopped and the whole unit restarts.
The pause before a restart doubles with every failure and is reset after a minute of good health. A program may define a
health check; if it fails several checks in a row it is killed, and so restarted.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from symphony_fl.launch.die_with_parent import die_with_parent

TICK = 0.2  # seconds between two looks at the programs
STOP_SECONDS = 10.0  # after SIGTERM, before SIGKILL
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 15.0  # seconds before a restart
GOOD_HEALTH = 60.0  # seconds after which past failures are forgotten
COLOURS = re.compile(r"\x1b\[[0-9;]*m")  # Flower's logs are coloured
MAX_LOG = 8 << 20  # bytes; a longer log is set aside when its program starts


@dataclass
class Program:
    """A program of a unit.

    Attributes
    ----------
    name : also that of its log
    command : program and arguments
    explain : what to tell people about its end, from the last lines of its log; "" for nothing
    healthy : called now and then while it runs; None where running is health enough
    """

    name: str
    command: Sequence[str]
    explain: Callable[[str], str] = lambda tail: ""
    healthy: Callable[[], bool] | None = None


@dataclass
class Unit:
    """Programs that live and die together.

    Attributes
    ----------
    name : for people
    programs : made anew for every start, as ports and secrets may change
    patience : seconds between two questions after health; three unanswered ones in a row are the end
    grace : seconds a program may take to come up before it is first asked
    """

    name: str
    programs: Callable[[], Sequence[Program]]
    patience: float = 10.0
    grace: float = 120.0
    running: list[tuple[Program, subprocess.Popen[bytes]]] = field(default_factory=list)
    starts: int = 0
    failures: int = 0
    started: float = 0.0
    not_before: float = 0.0
    asked: float = 0.0
    silent: int = 0
    seen: bool = False


class Supervisor:
    """Keeps units running until told to stop.

    Parameters
    ----------
    environment : of all programs
    folder : their working folder
    logs : where each writes its log
    say : what people are told
    """

    def __init__(
        self, environment: Mapping[str, str], folder: Path, logs: Path, say: Callable[[str], None]
    ) -> None:
        self.environment = dict(environment)
        self.folder = folder
        self.logs = logs
        self.say = say
        self._stopping = False

    def run(self, units: Sequence[Unit], tick: Callable[[], None] = lambda: None) -> None:
        """Until SIGTERM or Ctrl-C; then everything is stopped, the last unit first. `tick` is called in between."""
        before = {sign: signal.signal(sign, self._stop) for sign in (signal.SIGTERM, signal.SIGINT)}
        try:
            while not self._stopping:
                for unit in units:
                    self._look_after(unit)
                tick()
                time.sleep(TICK)
        finally:
            for unit in reversed(units):
                stop(process for _, process in unit.running)
            for sign, handler in before.items():
                signal.signal(sign, handler)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self._stopping = True

    def _look_after(self, unit: Unit) -> None:
        now = time.monotonic()
        if not unit.running:
            if now >= unit.not_before:
                self._start(unit, now)
            return
        ended = [(program, process) for program, process in unit.running if process.poll() is not None]
        if ended:
            self._bury(unit, ended[0][0], ended[0][1], now)
            return
        if unit.failures and now - unit.started > GOOD_HEALTH:
            unit.failures = 0
        if now - unit.asked >= unit.patience:
            unit.asked = now
            for program, _ in unit.running:
                self._shorten(self._log(program))
            self._ask(unit, now)

    def _start(self, unit: Unit, now: float) -> None:
        try:
            self._launch(unit)
        except OSError as error:  # a full disk takes no secret and no log; later it may
            stop(process for _, process in unit.running)
            unit.running.clear()
            self.say(f"{unit.name} cannot be started ({error}); again in {self._put_off(unit, now):g} s")
            return
        unit.starts += 1
        unit.started, unit.silent, unit.seen = now, 0, False

    def _put_off(self, unit: Unit, now: float) -> float:
        """Seconds until the unit is started again: twice as many with every failure."""
        pause: float = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(unit.failures, 16))
        unit.failures += 1
        unit.not_before = now + pause
        return pause

    def _launch(self, unit: Unit) -> None:
        for program in unit.programs():
            with self._log(program).open("ab") as output:
                process = subprocess.Popen(
                    program.command,
                    env=self.environment,
                    cwd=self.folder,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    # A SuperNode that is asked to stop is free to come back at once.
                    preexec_fn=die_with_parent(signal.SIGTERM),
                )
            unit.running.append((program, process))

    def _log(self, program: Program) -> Path:
        return self.logs / f"{program.name}.log"

    def _shorten(self, log: Path) -> None:
        """Keep what a long log holds as the last one, and go on with an empty one: a program may run for months. It
        appends, so it writes on where the file now ends."""
        if not log.exists() or log.stat().st_size <= MAX_LOG:
            return
        try:
            last = log.with_suffix(".log.1")
            last.unlink(missing_ok=True)  # room for this one, on a disk that is nearly full
            shutil.copyfile(log, last)
        except OSError as error:
            self.say(f"{log.name} is not kept: {error.strerror}")
        os.truncate(log, 0)

    def _bury(self, unit: Unit, program: Program, process: subprocess.Popen[bytes], now: float) -> None:
        stop(process for _, process in unit.running)
        unit.running.clear()
        pause = self._put_off(unit, now)
        killed = process.returncode < 0  # then the log does not know why
        why = "" if killed else program.explain(tail(self.logs / f"{program.name}.log"))
        self.say(
            f"{program.name} ended ({_status(process)}){'; ' + why if why else ''}; again in {pause:g} s"
        )

    def _ask(self, unit: Unit, now: float) -> None:
        for program, process in unit.running:
            if program.healthy is None:
                continue
            if program.healthy():
                unit.seen, unit.silent = True, 0
            elif unit.seen or now - unit.started > unit.grace:
                unit.silent += 1
                if unit.silent >= 3:
                    self.say(f"{program.name} does not answer: killed")
                    with suppress(ProcessLookupError):
                        os.killpg(process.pid, signal.SIGKILL)
                    process.wait()


def stop(processes: Iterable[subprocess.Popen[bytes]]) -> None:
    """Ask all, then insist; each with the whole group it leads."""
    alive = list(processes)
    for process in alive:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP_SECONDS
    for process in alive:
        with suppress(subprocess.TimeoutExpired):
            process.wait(max(0.0, deadline - time.monotonic()))
        with suppress(ProcessLookupError):  # also what a program that ended left behind in its group
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def tail(log: Path, size: int = 4000) -> str:
    """The last `size` bytes of a log."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - size))
        return COLOURS.sub("", file.read().decode(errors="replace"))


def _status(process: subprocess.Popen[bytes]) -> str:
    code = process.returncode
    return f"signal {-code}" if code < 0 else f"status {code}"
