"""Where a run is, for people: what its processes say of it in their logs, and how that reads.

The ServerApp logs two kinds of lines. What follows `MARK` is for people as it stands. What follows `STEP` is a `Step`:
the launcher keeps the newest in a `Watch`, of which `display.py` makes a bar or a line now and then.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field

MARK = "symphony: "
STEP = "symphony step: "
FIGURES = ("reward", "accuracy", "sent")  # of a round: means over agents; `sent` in bytes
MOST = 1_000_000_000
# Flower's level stands before a line; an agent's words may stand further on in one, and are no step.
_LINE = re.compile(r"^(?:\x1b\[[0-9;]*m)?(?:[A-Z]+ *(?:\x1b\[[0-9;]*m)? *: +)?" + STEP + r"(\{.*\})\s*$")

STARTING = {
    "superlink": "starting Flower's SuperLink",
    "app": "handing the app to Flower",
    "simulation": "starting the ServerApp and Ray",
    "serverapp": "starting the ServerApp",
    "processes": "starting the agents' processes",
    "agents": "starting the agents",
    "results": "writing results",
    "stop": "stopping",
}
AGENTS, FIGURES_STAGE = "agents", "figures"
ROUND = {"train": "have trained", "evaluate": "are evaluated"}


@dataclass(frozen=True)
class Step:
    """Something that happened in a run.

    Attributes
    ----------
    stage
        A key of `STARTING` or `ROUND`, or "figures": a round is over.
    done, of
        Agents that are through with the stage, and how many there are.
    round, rounds
        The round it belongs to, 0 before the first, and how many there are.
    figures
        By names of `FIGURES`.
    """

    stage: str
    done: int = 0
    of: int = 0
    round: int = 0
    rounds: int = 0
    figures: Mapping[str, float] = field(default_factory=dict)

    def line(self) -> str:
        """What is logged."""
        return STEP + json.dumps({name: value for name, value in asdict(self).items() if value})


Progress = Callable[[str], None]
"""Takes a line that is for people."""
Steps = Callable[[Step], None]


def no_steps(step: Step) -> None:
    """For those who watch lines only."""


def read_step(line: str) -> Step | None:
    """The step that a line of a log holds, if it is one and well formed."""
    found = _LINE.match(line)
    if found is None:
        return None
    try:
        values = json.loads(found.group(1))
    except (ValueError, RecursionError):
        return None
    stage = values.pop("stage", None)
    figures = values.pop("figures", {})
    if (
        not isinstance(stage, str)
        or stage not in {*STARTING, *ROUND, FIGURES_STAGE}
        or not isinstance(figures, dict)
    ):
        return None
    if set(values) - {"done", "of", "round", "rounds"} or set(figures) - set(FIGURES):
        return None
    if not all(type(value) is int and 0 <= value <= MOST for value in values.values()):
        return None
    if not all(
        type(value) in (int, float) and math.isfinite(value) and abs(value) < 1e15
        for value in figures.values()
    ):
        return None
    return Step(stage, figures=figures, **values)


def pass_on(line: str, progress: Progress, steps: Steps) -> None:
    """Give a line of a log to whom it is meant for."""
    step = read_step(line)
    if step is not None:
        steps(step)
    elif MARK in line:
        progress(line.split(MARK, 1)[1].rstrip())


class Watch:
    """The newest of what was heard of a run; times are seconds on the caller's clock."""

    def __init__(self, now: float) -> None:
        self.step: Step | None = None
        self.figures: dict[str, float] = {}
        self.round = 0  # that is over
        self.rounds = 0
        self._since = now
        self._began: tuple[float, int] | None = None  # when the first rounds were over, and how many
        self._newest = now  # when the newest was

    def hear(self, step: Step, now: float) -> bool:
        """Take note; whether it begins another stage or round."""
        if step.stage == FIGURES_STAGE:
            self.figures |= step.figures
            self.round, self.rounds, self._newest = step.round, step.rounds, now
            self._began = self._began or (now, step.round)
            return False
        known = self.step
        self.step = step
        self.rounds = step.rounds or self.rounds
        new = known is None or (known.stage, known.round) != (step.stage, step.round)
        if new:
            self._since = now
        return new

    def status(self, now: float) -> str:
        """What goes on, in one line."""
        return ", ".join(
            part for part in (self.what(), f"{now - self._since:.0f} s", self._left(now)) if part
        )

    def what(self) -> str:
        """The same without times."""
        step = self.step
        if step is None:
            return "starting"
        if step.stage == AGENTS:
            return f"{STARTING[AGENTS]}: {step.done} of {step.of} are ready"
        if step.stage in STARTING:
            return STARTING[step.stage]
        where = f"round {step.round}/{step.rounds}" if step.round else "before round 1"
        return f"{where}: {step.done} of {step.of} agents {ROUND[step.stage]}"

    def share(self) -> float:
        """How much of the rounds is over, from 0 to 1."""
        if not self.rounds:
            return 0.0
        step, part = self.step, 0.0
        if step is not None and step.stage in ROUND and step.of and step.round > self.round:
            part = min(1.0, step.done / step.of) * (0.8 if step.stage == "train" else 0.0)
        return min(1.0, (self.round + part) / self.rounds)

    def left(self, now: float) -> float | None:
        """Seconds that the other rounds may take, from those that are over; None before the first is."""
        if self._began is None or self.round <= self._began[1]:
            return None
        began, before = self._began
        each = (self._newest - began) / (self.round - before)
        return max(0.0, each * (self.rounds - self.round) - (now - self._newest))

    def _left(self, now: float) -> str:
        left = self.left(now)
        return f"about {duration(left)} left" if left else ""


def duration(seconds: float) -> str:
    """For people: seconds, from two minutes on minutes."""
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def figures_line(figures: Mapping[str, float]) -> str:
    """The figures that there are."""
    parts = [f"{name} {figures[name]:.3f}" for name in ("reward", "accuracy") if name in figures]
    if "sent" in figures:
        parts.append(f"{figures['sent'] / 1000:.1f} kB sent")
    return ", ".join(parts)
