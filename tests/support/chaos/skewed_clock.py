"""A device's wall clock, wrong by as much as wanted and from one instant to the next, without touching this machine's.

`skew.c` is compiled and preloaded into the device's programs; it reads from a file how far ahead their clock is.
"""

from __future__ import annotations

import shutil
import struct
import subprocess
import sys
from pathlib import Path

_SOURCE = Path(__file__).with_name("skew.c")


def compile_skew(folder: Path) -> Path | None:
    """The library, or None where there is no Linux or no C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if sys.platform != "linux" or compiler is None:
        return None
    library = folder / "skew.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O2", "-o", str(library), str(_SOURCE)], check=True)
    return library


class SkewedClock:
    """The clock of one device, right at first."""

    def __init__(self, library: Path, file: Path) -> None:
        self.environment = {"LD_PRELOAD": str(library), "SKEW_FILE": str(file)}
        self._file = file
        file.write_bytes(struct.pack("l", 0))

    def set(self, seconds: int) -> None:
        """Ahead by so much from now on; negative for behind."""
        with self._file.open("r+b") as file:  # in place: the programs have it mapped
            file.write(struct.pack("l", seconds))
