"""What a run has to say to its tracking server, kept on disk until the server has it.

An append-only file of one JSON line per entry, in the order in which things happened; a second file says how many of
them have been delivered. Entries are written before they are delivered, and the count after: a kill in between delivers
an entry twice, so every delivery must be one that does nothing the second time (`tracker.py`).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from symphony_fl.storage.folders import private_opener, write_atomically

ENTRIES, STATE = "tracking.jsonl", "tracking.json"
PARENT = "parent"  # in entries: the run itself, beside the numbers of its agents as text

Entry = dict[str, Any]


class SpoolError(ValueError):
    """A spool that is not one; the message names the file, and what is wrong."""


class Spool:
    """The entries of one run, in its folder; one process at a time, in which one thread may add entries while another
    delivers them.

    Parameters
    ----------
    folder : of the run

    Attributes
    ----------
    count : entries in all
    state : what the deliverer must know again after a restart: JSON values, kept with the count in one file
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / ENTRIES
        self._state_path = folder / STATE
        self._delivered = 0
        self.state: dict[str, Any] = {}
        if self._state_path.exists():
            self._read_state()
        self.count, self._next = self._repair()
        if self._delivered > self.count:
            raise SpoolError(
                f"{self._state_path}: {self._delivered} delivered, {self.path} has {self.count} entries"
            )
        self._file = open(self.path, "ab", opener=private_opener)

    def append(self, entry: Entry) -> None:
        """Remember an entry; after `sync` it is there also after a power cut."""
        self._file.write(json.dumps(entry, separators=(",", ":")).encode() + b"\n")
        self._file.flush()
        self.count += 1

    def sync(self) -> None:
        os.fsync(self._file.fileno())

    @property
    def pending(self) -> int:
        """Entries that have not been delivered."""
        return self.count - self._delivered

    def waiting(self) -> Iterator[tuple[Entry, int]]:
        """Entries not yet delivered, in order, each with what `delivered` is to be told once it has been."""
        with self.path.open("rb") as file:
            file.seek(self._next)
            while (line := file.readline()).endswith(b"\n"):  # one may be just being written
                yield json.loads(line), len(line)

    def delivered(self, size: int) -> None:
        """The first entry that was waiting has been delivered."""
        self._delivered += 1
        self._next += size

    def save(self) -> None:
        """Count and state to the disk, both or neither."""
        values = {"delivered": self._delivered, "state": self.state}
        write_atomically(self._state_path, json.dumps(values).encode())

    def close(self) -> None:
        self.sync()
        self._file.close()

    def _read_state(self) -> None:
        try:
            values = json.loads(self._state_path.read_text(encoding="utf-8"))
            self._delivered, self.state = int(values["delivered"]), dict(values["state"])
        except (ValueError, KeyError, TypeError):
            raise SpoolError(
                f"{self._state_path}: must hold a count of what was delivered, and a state"
            ) from None
        if self._delivered < 0:
            raise SpoolError(f"{self._state_path}: delivered = {self._delivered}, must be at least 0")

    def _repair(self) -> tuple[int, int]:
        """Number of entries, and where the first undelivered one begins; a last line cut short by a kill is dropped."""
        if not self.path.exists():
            return 0, 0
        data = self.path.read_bytes()
        whole = data[: data.rfind(b"\n") + 1]
        lines = whole.splitlines(keepends=True)
        for number, line in enumerate(lines, start=1):
            try:
                good = isinstance(json.loads(line), dict)
            except ValueError:
                good = False
            if not good:
                raise SpoolError(f"{self.path}, line {number}: {line[:80]!r}, must be a JSON object")
        if whole != data:
            with self.path.open("r+b") as file:
                file.truncate(len(whole))
        return len(lines), sum(map(len, lines[: self._delivered]))
