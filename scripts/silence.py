"""The longest silence of a command: how long it printed nothing, from its start to its end.

    python scripts/silence.py [--terminal] [--most SECONDS] COMMAND...

The command's output is passed on. With --terminal its standard output is a pseudo-terminal, on which programs show bars
in place of lines. With --most the exit status is 1 where a silence was longer; else it is the command's own.
"""

from __future__ import annotations

import argparse
import os
import pty
import subprocess
import sys
import time
from collections.abc import Sequence

CHUNK = 1 << 16


def longest_silence(command: Sequence[str], terminal: bool = False) -> tuple[float, str, int]:
    """(seconds, what had been printed last before it, the command's exit status)."""
    ours, theirs = pty.openpty() if terminal else os.pipe()
    began = last = time.monotonic()
    longest, where, said = 0.0, "the start", "the start"
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=theirs, stderr=subprocess.STDOUT)
    os.close(theirs)
    while True:
        try:
            data = os.read(ours, CHUNK)
        except OSError:  # Linux: the other end of a pseudo-terminal is closed
            data = b""
        now = time.monotonic()
        if now - last > longest:
            longest, where = now - last, f"{said} ({last - began:.0f} s after the start)"
        last = now
        if not data:
            break
        os.write(sys.stdout.fileno(), data)
        lines = [line.strip() for line in data.decode(errors="replace").splitlines() if line.strip()]
        said = lines[-1] if lines else said
    os.close(ours)
    return longest, where, process.wait()


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--terminal", action="store_true")
    parser.add_argument("--most", type=float, metavar="SECONDS")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    if not options.command:
        parser.error("no COMMAND")
    silence, where, status = longest_silence(options.command, options.terminal)
    print(f"longest silence: {silence:.2f} s, after: {where}", file=sys.stderr)
    return 1 if options.most is not None and silence > options.most else status


if __name__ == "__main__":
    sys.exit(main())
