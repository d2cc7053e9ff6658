"""A grid that sends a message again when no answer comes, for strategies with a round barrier.

Retrying is always safe: an agent asked twice for the same round gives the same answer. It is needed because a message
is lost with the node that fetched it. Flower reports the loss once it sees that the node is away, but it never misses a
node that is killed and back before the next check. The message then counts as delivered, no node works on it, and the
round waits for its full timeout (a chaos run, flwr 1.41: the SuperLink saw a node away for 0.1 s).

Each node has its own timeout (`adaptive_timeouts.py`). Bytes sent again are not counted: retries are rare, and each is
logged.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from logging import WARNING

from flwr.app import Message
from flwr.common import log
from flwr.serverapp import Grid

from strategies.grids.adaptive_timeouts import AdaptiveTimeouts
from strategies.grids.wrapper import GridWrapper

LEAST_SECONDS = 60.0  # Flower notices within about as many that a node is away
DEVIATIONS = 6.0


@dataclass(eq=False)
class _Question:
    """A message that is not answered yet: when it was sent first (monotonic seconds), how often in all."""

    message: Message
    began: float
    times: int = 1

    @property
    def key(self) -> tuple[int, str]:
        told = self.message.metadata
        return told.dst_node_id, told.message_type


class RetryGrid(GridWrapper):
    """As above.

    Parameters
    ----------
    grid : Flower's, or one around it
    least : seconds that any answer may take
    most : seconds after which a node is asked again whatever it took before
    clock, sleep : of the process, or a test's
    """

    def __init__(
        self,
        grid: Grid,
        least: float = LEAST_SECONDS,
        most: float = 3600.0,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        super().__init__(grid, clock=clock, sleep=sleep)
        self._deadlines = AdaptiveTimeouts(DEVIATIONS, least, most)

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Send, and wait for the replies; those that have not come after `timeout` seconds are missing."""
        messages, began = list(messages), self._clock()
        taken = set(self.push_messages(messages))  # the others Flower did not take
        waiting = {  # by the name of every message under way: a question that was asked again has several
            message.metadata.message_id: _Question(message, began)
            for message in messages
            if message.metadata.message_id in taken
        }
        found: list[Message] = []
        while waiting and (timeout is None or self._clock() - began < timeout):
            new = list(self.pull_messages(waiting))
            for reply in new:
                question = waiting.pop(reply.metadata.reply_to_message_id, None)
                if question is None:  # both of two came at once
                    continue
                if reply.has_error() and question in waiting.values():
                    continue  # of a message that is lost; it has been sent again
                found.append(reply)
                waiting = {name: other for name, other in waiting.items() if other is not question}
                if not reply.has_error():
                    self._deadlines.answered(*question.key, self._clock() - began)
            if waiting and not new:
                waiting |= self._ask_again(waiting.values())
                self._sleep(self.pause_seconds)
        return found

    def _ask_again(self, waiting: Iterable[_Question]) -> dict[str, _Question]:
        """Whatever has waited for too long, once more; by the names it went under."""
        again: dict[str, _Question] = {}
        for question in {id(question): question for question in waiting}.values():
            patience = self._deadlines.of(*question.key, question.times - 1)
            if self._clock() - question.began <= patience:
                continue
            question.times += 1
            told = question.message.metadata
            message = Message(question.message.content, told.dst_node_id, told.message_type, ttl=told.ttl)
            taken = set(self.push_messages([message]))  # which gives the message its name
            if message.metadata.message_id in taken:
                log(WARNING, "node %d has not answered; asked again (%d)", told.dst_node_id, question.times)
                again[message.metadata.message_id] = question
        return again
