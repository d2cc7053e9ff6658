"""Counts of the runs' messages that a device refused, by name of the refusal: a small file that survives processes."""

from __future__ import annotations

import json
from logging import getLogger
from pathlib import Path

from symphony_fl.storage.folders import write_atomically

FILE = "refused_runs.json"
MOST = (1 << 53) - 1  # a counter stays an exact JSON number
LOG = getLogger("symphony_fl.edge")


def read_refused_runs(device: Path) -> dict[str, int]:
    """Name -> how many messages were refused under it; empty where none was, or where the file is damaged."""
    try:
        values = json.loads((device / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(values, dict):
        return {}
    return {name: value for name, value in values.items() if isinstance(value, int)}


def count_refused_run(device: Path, name: str) -> None:
    """Add one. A full disk costs the count, not the refusal."""
    counts = read_refused_runs(device)
    counts[name] = min(counts.get(name, 0) + 1, MOST)
    try:
        write_atomically(device / FILE, json.dumps(counts).encode(), mode=0o600)
    except OSError as error:
        LOG.warning("%s: not counted: %s", device / FILE, error.strerror)
