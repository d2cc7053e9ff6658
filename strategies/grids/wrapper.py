"""What all grids of ours have, and what those that stand around another one pass on to it unchanged."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.run import Run


class OurGrid(Grid):
    """What every grid of ours does alike: it makes messages as Flower does."""

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)


class GridWrapper(OurGrid):
    """Subclasses say what becomes of nodes and messages; the run is the inner grid's.

    Parameters
    ----------
    grid
        Flower's, or one around it.
    clock
        Monotonic seconds.
    sleep
        Waits that many of them.
    """

    pause_seconds = 0.5
    """Between two looks for replies while `send_and_receive` waits."""

    def __init__(
        self,
        grid: Grid,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._grid = grid
        self._clock = clock
        self._sleep = sleep

    def get_node_ids(self) -> Iterable[int]:
        return self._grid.get_node_ids()

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        return self._grid.push_messages(messages)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        return self._grid.pull_messages(message_ids)

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Send, and wait for the replies; those that have not come after `timeout` seconds are missing."""
        missing = {name for name in self.push_messages(messages) if name}  # the others Flower did not take
        deadline = None if timeout is None else self._clock() + timeout
        found: list[Message] = []
        while missing and (deadline is None or self._clock() < deadline):
            new = list(self.pull_messages(missing))
            found += new
            missing -= {reply.metadata.reply_to_message_id for reply in new}
            if missing and not new:
                self._sleep(self.pause_seconds)
        return found

    def set_run(self, run: Run) -> None:
        self._grid.set_run(run)

    @property
    def run(self) -> Run:
        return self._grid.run
