"""Mail that neighbours delivered directly, on disk from the moment it is accepted until it is merged.

    home/inbox/<agent>-<round>      the body of one delivery (`symphony_fl/exchange/messages/direct_message.py`)

Accepted mail must survive a kill: its sender has the receiver's acknowledgement and sends it no other way. Every sender
has its own share of the space, so a sender that floods crowds out only its own mail. The endpoint's thread writes here,
the agent's thread reads.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable
from pathlib import Path

from symphony_fl.refusals import NoRoom
from symphony_fl.storage.folders import write_atomically

INBOX_BYTES = 1 << 30  # of all senders together, what a mailbox keeps for one recipient
INBOX_ROUNDS = 64  # that wait of one sender
_NAME = re.compile(r"(0|[1-9]\d{0,9})-([1-9]\d{0,9})")

Name = tuple[int, int]
"""Agent that delivered it, its round."""


class Inbox:
    """The deliveries that wait.

    Parameters
    ----------
    folder : made if it is not there
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        folder.mkdir(mode=0o700, exist_ok=True)
        self._sizes: dict[Name, int] = {}
        for path in folder.iterdir():
            match = _NAME.fullmatch(path.name)
            if match:
                self._sizes[int(match[1]), int(match[2])] = path.stat().st_size
            else:
                path.unlink()  # a temporary file of a killed process: never acknowledged

    def room(self, sender: int, round: int, share: int) -> int:
        """Bytes that `sender`, who may have `share` in all, may still deliver with this round's mail."""
        with self._lock:
            waiting = {name: size for name, size in self._sizes.items() if name[0] == sender}
            if len(waiting.keys() - {(sender, round)}) >= INBOX_ROUNDS:
                return 0
            return share - sum(waiting.values()) + waiting.get((sender, round), 0)

    def put(self, sender: int, round: int, body: bytes, share: int) -> None:
        """Keep a body; a second one of the same sender and round takes the place of the first.

        Raises
        ------
        NoRoom
            The sender's share, or the disk, is full.
        """
        if len(body) > self.room(sender, round, share):
            raise NoRoom(f"agent {sender} has no room left")
        try:
            write_atomically(self._folder / f"{sender}-{round}", body, mode=0o600)
        except OSError as error:
            raise NoRoom(f"not written: {error}") from None
        with self._lock:
            self._sizes[sender, round] = len(body)

    def names(self, before: int | None) -> list[Name]:
        """What waits of rounds below `before` (None: of all), by round and agent."""
        with self._lock:
            found = [name for name in self._sizes if before is None or name[1] < before]
        return sorted(found, key=lambda name: (name[1], name[0]))

    def body(self, name: Name) -> bytes:
        return (self._folder / f"{name[0]}-{name[1]}").read_bytes()

    def forget(self, names: Iterable[Name]) -> None:
        """These are merged, or cannot be read."""
        for sender, round in names:
            (self._folder / f"{sender}-{round}").unlink(missing_ok=True)
            with self._lock:
                self._sizes.pop((sender, round), None)
