"""A grid that reports how many of a round's replies have arrived, for the progress display.

Strategies with a round barrier send a round's messages in one call and get the replies once all are there. This grid
counts the replies as they arrive. Messages sent one at a time belong to agents without a round barrier: for those,
only whole rounds are reported (`recorder.py`).
"""

from __future__ import annotations

from collections.abc import Iterable
from logging import INFO

from flwr.app import Message
from flwr.common import log
from flwr.serverapp import Grid

from clients.protocol.messages import CONFIG, ROUND
from strategies.grids.wrapper import GridWrapper
from symphony_fl.launch.progress import ROUND as KINDS
from symphony_fl.launch.progress import Step


def tell(step: Step) -> None:
    """Log a step for the process that launched the run (`symphony_fl/launch/progress.py`)."""
    log(INFO, "%s", step.line())


class ProgressGrid(GridWrapper):
    """As above.

    Parameters
    ----------
    grid
        Flower's, or one around it.
    rounds
        Of the run.
    """

    pause_seconds = 0.1

    def __init__(self, grid: Grid, rounds: int) -> None:
        super().__init__(grid)
        self._rounds = rounds
        self._waiting: set[str] = set()
        self._step: Step | None = None

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        messages = list(messages)
        taken = list(self._grid.push_messages(messages))
        kinds = {(message.metadata.message_type, _round(message)) for message in messages}
        if len(messages) > 1 and len(kinds) == 1:
            ((kind, number),) = kinds
            if kind in KINDS and number is not None:
                self._waiting = {name for name in taken if name}
                self._step = Step(kind, 0, len(self._waiting), number, self._rounds)
                tell(self._step)
        return taken

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        replies = list(self._grid.pull_messages(message_ids))
        answered = {reply.metadata.reply_to_message_id for reply in replies} & self._waiting
        if answered and self._step is not None:
            self._waiting -= answered
            step = self._step
            self._step = Step(step.stage, step.of - len(self._waiting), step.of, step.round, step.rounds)
            tell(self._step)
        return replies


def _round(message: Message) -> int | None:
    record = message.content.config_records.get(CONFIG)
    number = record.get(ROUND) if record is not None else None
    return number if isinstance(number, int) else None
