"""The machine and software of an experiment: what is needed to repeat it."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from symphony_fl import __version__

PACKAGES = ("flwr", "ray", "torch", "transformers", "peft", "trl", "numpy", "mlflow")


def machine(checkout: Path) -> dict[str, str]:
    """Name -> value, for people: commit, versions, processor, memory, date."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": commit(checkout),
        "Symphony-FL": __version__,
        "Python": platform.python_version(),
        **{package: version(package) for package in PACKAGES},
        "system": f"{platform.system()} {platform.release()}",
        "processor": f"{_processor()}, {os.cpu_count()} cores",
        "memory": f"{memory:.1f} GiB",
    }


def commit(checkout: Path) -> str:
    """The commit of a checkout, with a word where files differ from it; "unknown" where there is no git."""
    try:
        asked = [_git(checkout, "rev-parse", "HEAD"), _git(checkout, "status", "--porcelain", "-uno")]
    except FileNotFoundError:
        return "unknown (no git)"
    if asked[0].returncode:
        return "unknown (no git checkout)"
    return asked[0].stdout.strip()[:12] + (" with changes" if asked[1].stdout.strip() else "")


def _git(checkout: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", "-C", str(checkout), *words], capture_output=True, text=True, check=False)


def _processor() -> str:
    """Its name where the system tells it."""
    file = Path("/proc/cpuinfo")
    if file.is_file():
        for line in file.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
