"""The homes of a device: one per run it takes part in, as many as a server may make it keep.

A home without a finished round gives its place to the next run, the oldest first. Every greeting makes a home, so a
server could otherwise fill the disk with homes or take up every place. Only the owner removes a home with a finished
round: a stranger's greeting never deletes an adapter.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from logging import INFO
from pathlib import Path

from flwr.common import log

from clients.home.founding import HomeError
from clients.home.home import GONE, Home
from clients.protocol.greeting import check_run_name

MAX_HOMES = 64  # runs a device keeps until its owner removes some; bounds what a server can fill


class Homes:
    """A device's homes, by the names of runs, which come from the network.

    Parameters
    ----------
    device : its folder; key and pins lie there, once for all homes
    """

    def __init__(self, device: Path) -> None:
        self.device = device
        self.folder = device / "homes"
        self._trained: set[str] = set()  # what was found to hold a finished round; it always will

    def home_of(self, run: str) -> Home:
        """The home of a run. Nothing is made before `Home.make`.

        Raises
        ------
        MessageError
            The name is none.
        """
        return Home(self.folder / check_run_name(run), self.device, room=self._make_room)

    def _make_room(self) -> None:
        """A place for one more home.

        Raises
        ------
        HomeError
            Every place is taken by a home that was trained in.
        """
        for remains in self.folder.glob(f"{GONE}*"):  # of a removal that was killed
            shutil.rmtree(remains, ignore_errors=True)
        homes = sorted(self._all(), key=lambda path: path.lstat().st_mtime)
        surplus = len(homes) - MAX_HOMES + 1
        for path in homes:
            if surplus <= 0:
                return
            if path.name in self._trained or self._is_trained(path):
                self._trained.add(path.name)
            else:
                log(
                    INFO,
                    "homes: %s, in which no round was finished, gives its place to another run",
                    path.name,
                )
                Home(path, self.device).discard()
                surplus -= 1
        if surplus > 0:
            raise HomeError(
                f"{self.folder}: holds {MAX_HOMES} runs that were trained in; remove those that are over",
                "run: this device takes part in as many runs as it keeps; its owner must remove some",
            )

    def _all(self) -> Iterator[Path]:
        return self.folder.iterdir() if self.folder.is_dir() else iter(())

    def _is_trained(self, path: Path) -> bool:
        """Whether a home holds a finished round; one that cannot be read is not taken for empty."""
        if not path.is_dir() or path.is_symlink():
            return True
        try:
            state = Home(path, self.device).load()
        except HomeError:
            return True
        return state is not None and state.round > 0
