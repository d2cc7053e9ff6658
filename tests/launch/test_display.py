"""What is printed of a run, with and without a terminal."""

from __future__ import annotations

import io
import subprocess
import sys
import time
from pathlib import Path

from rich.console import Console

from symphony_fl.launch.display import SILENCE, Bar, Lines
from symphony_fl.launch.progress import Step

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "silence.py"


def test_lines_are_printed_at_every_stage_and_never_far_apart() -> None:
    now, lines = [0.0], []
    shown = Lines(lambda text: lines.append((now[0], text)), lambda: now[0])
    happens = {
        1: Step("superlink"),
        5: Step("agents", 0, 2),
        6: Step("agents", 1, 2),
        11: Step("train", 0, 2, 1, 9),
    }
    for tenth in range(200):
        now[0] = tenth / 10
        if tenth % 10 == 0 and tenth // 10 in happens:
            shown.step(happens[tenth // 10])
        if tenth == 150:
            shown.line("round 1/9, 4 s")
        shown.tick()
    times = [when for when, _ in lines]
    assert max(b - a for a, b in zip([0.0, *times], [*times, now[0]], strict=True)) <= SILENCE + 0.11
    assert lines[0] == (1.0, "  starting Flower's SuperLink")
    assert (5.0, "  starting the agents: 0 of 2 are ready") in lines
    assert (7.0, "  starting the agents: 1 of 2 are ready, 2 s") in lines
    assert (13.0, "  round 1/9: 0 of 2 agents have trained, 2 s") in lines
    assert (15.0, "  round 1/9, 4 s") in lines and len(lines) == len(set(lines)) == 10


def test_lines_go_on_while_the_caller_waits() -> None:
    lines: list[str] = []
    with Lines(lines.append) as shown:
        shown.step(Step("superlink"))
        time.sleep(1.6 * SILENCE)
        seen = len(lines)
    assert seen >= 2 and lines[1].startswith("  starting Flower's SuperLink, ")
    time.sleep(0.3)
    assert len(lines) == seen, "nothing is printed after the end"


def test_a_bar_shows_the_round_and_leaves_the_lines() -> None:
    output = io.StringIO()
    console = Console(file=output, force_terminal=True, width=120, highlight=False)
    with Bar(console) as shown:
        shown.step(Step("train", 1, 4, 3, 15))
        shown.step(
            Step("figures", round=3, rounds=15, figures={"accuracy": 0.5, "reward": 0.25, "sent": 1e4})
        )
        shown.line("round 3/15, [red]reward[/red] 0.250")
        time.sleep(0.5)
    text = output.getvalue()
    assert "  round 3/15, [red]reward[/red] 0.250\n" in text.replace("\r", "")
    assert "round 3/15: 1 of 4 agents have trained" in text and "3/15" in text
    assert "reward 0.250, accuracy 0.500, 10.0 kB sent" in text


def test_the_longest_silence_is_measured() -> None:
    command = [sys.executable, "-c", "import time; print(1, flush=True); time.sleep(1.0); print(2)"]
    measure = [sys.executable, str(SCRIPT)]
    done = subprocess.run([*measure, *command], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "1\n2\n")
    assert 1.0 <= float(done.stderr.split()[2]) < 5.0 and "after: 1" in done.stderr
    assert subprocess.run([*measure, "--most", "0.5", *command], capture_output=True).returncode == 1
    shown = [sys.executable, "-c", "import sys; print(sys.stdout.isatty()); sys.exit(3)"]
    done = subprocess.run([*measure, "--terminal", *shown], capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (3, "True")
