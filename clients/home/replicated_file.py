"""A file that lies in its folder twice: what a disk does to one of the two costs nothing."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from clients.home.state_file import DamagedError
from symphony_fl.storage.folders import write_all_atomically, write_atomically

T = TypeVar("T")


@dataclass(frozen=True)
class Found(Generic[T]):
    """What was read, the file it was read from, what is wrong with the other ("" for nothing), and whether both hold
    the same."""

    value: T
    source: Path
    damage: str
    same: bool = False


class ReplicatedFile(Generic[T]):
    """The two files of one content.

    Parameters
    ----------
    main, copy : in one folder; they are replaced in this order
    read : reads one of them; raises DamagedError where it does not hold what was written
    """

    def __init__(self, main: Path, copy: Path, read: Callable[[Path], T]) -> None:
        self.main, self.copy = main, copy
        self._read = read

    def write(self, data: bytes) -> None:
        """Both hold `data`, durably, when this returns."""
        write_all_atomically([self.main, self.copy], data)

    def remove(self) -> None:
        """Neither is there; not durably: what comes back after a power cut must do no harm."""
        for path in (self.main, self.copy):
            path.unlink(missing_ok=True)

    def load(self) -> Found[T] | None:
        """The newest content that is whole, or None where neither file is there. Changes nothing.

        Raises
        ------
        DamagedError
            Neither file is whole.
        """
        if not os.path.lexists(self.main) and not os.path.lexists(self.copy):
            return None
        try:
            value = self._read(self.main)
        except DamagedError as error:
            if not os.path.lexists(self.copy):
                raise
            try:
                return Found(self._read(self.copy), self.copy, str(error))
            except DamagedError as worse:
                raise DamagedError(f"{error}; {worse}") from None
        if self._same():
            return Found(value, self.main, "", same=True)
        try:
            # A copy that is one write behind is what a kill leaves; one that is damaged is worth telling.
            if os.path.lexists(self.copy):
                self._read(self.copy)
        except DamagedError as error:
            return Found(value, self.main, str(error))
        return Found(value, self.main, "")

    def open(self) -> Found[T] | None:
        """As `load`, once both files hold what was found."""
        found = self.load()
        if found is not None and not found.same:
            other = self.copy if found.source == self.main else self.main
            if other.is_dir():
                raise DamagedError(f"{other}: is a folder; remove it")
            write_atomically(other, found.source.read_bytes())
        return found

    def _same(self) -> bool:
        return self.copy.is_file() and self.main.read_bytes() == self.copy.read_bytes()
