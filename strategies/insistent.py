"""A grid that asks again where no answer comes, for strategies whose rounds are in step.

A message dies with the node that has fetched it. Flower says so once it sees that the node is away; but a node that is
killed and back before anybody has looked is never missed: the message counts as delivered, nobody works on it, and the
round waits for it as long as it waits for anything (a chaos run, flwr 1.41: by the SuperLink's books a node was away
for 0.1 s). An agent that is asked for the same round twice answers twice the same, so asking again is always safe.

How long an answer may take is each node's own (`deadlines.py`); before a node has answered often enough, a multiple of
what the slowest of the others took. What is sent again is in no books: it is rare, and the log says it.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from logging import WARNING

from flwr.app import Message
from flwr.common import log
from flwr.serverapp import Grid

from strategies.around import Around
from strategies.deadlines import ENOUGH, Deadlines

LEAST_SECONDS = 60.0  # Flower notices within about as many that a node is away
DEVIATIONS = 6.0
OTHERS = 4.0  # times what the slowest of the others took


@dataclass
class _Question:
    """A message that is not answered yet: when it was sent first (monotonic seconds), how often in all."""

    message: Message
    began: float
    times: int = 1

    @property
    def key(self) -> tuple[int, str]:
        told = self.message.metadata
        return told.dst_node_id, told.message_type


class Insistent(Around):
    """As above.

    Parameters
    ----------
    grid : Flower's, or one around it
    least : seconds that any answer may take
    most : seconds after which a node is asked again whatever it took before
    """

    def __init__(self, grid: Grid, least: float = LEAST_SECONDS, most: float = 3600.0) -> None:
        super().__init__(grid)
        self._least = least
        self._deadlines = Deadlines(DEVIATIONS, least, most)
        self._answers: Counter[tuple[int, str]] = Counter()

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Send, and wait for the replies; those that have not come after `timeout` seconds are missing."""
        messages, began = list(messages), time.monotonic()
        taken = set(self.push_messages(messages))  # the others Flower did not take
        waiting = {  # by the name of every message under way: a question that was asked again has several
            message.metadata.message_id: _Question(message, began)
            for message in messages
            if message.metadata.message_id in taken
        }
        found: list[Message] = []
        slowest: float | None = None
        while waiting and (timeout is None or time.monotonic() - began < timeout):
            new = list(self.pull_messages(waiting))
            for reply in new:
                answered = waiting.get(reply.metadata.reply_to_message_id)
                if answered is None:  # both of two came at once
                    continue
                found.append(reply)
                waiting = {name: question for name, question in waiting.items() if question is not answered}
                slowest = self._note(answered, reply) or slowest
            if waiting and not new:
                waiting |= self._ask_again(waiting.values(), slowest)
                time.sleep(self.pause_seconds)
        return found

    def _note(self, question: _Question, reply: Message) -> float | None:
        """The seconds that an answer took, for next time; None where there is none."""
        if reply.has_error():
            return None
        seconds = time.monotonic() - question.began
        self._answers[question.key] += 1
        self._deadlines.answered(*question.key, seconds)
        return seconds

    def _ask_again(self, waiting: Iterable[_Question], slowest: float | None) -> dict[str, _Question]:
        """Whatever has waited for too long, once more; by the names it went under."""
        late = {id(question): question for question in waiting if self._late(question, slowest)}
        again: dict[str, _Question] = {}
        for question in late.values():
            question.times += 1
            told = question.message.metadata
            message = Message(question.message.content, told.dst_node_id, told.message_type, ttl=told.ttl)
            taken = set(self.push_messages([message]))  # which gives the message its name
            if message.metadata.message_id in taken:
                log(WARNING, "node %d has not answered; asked again (%d)", told.dst_node_id, question.times)
                again[message.metadata.message_id] = question
        return again

    def _late(self, question: _Question, slowest: float | None) -> bool:
        failures = question.times - 1
        if self._answers[question.key] >= ENOUGH:
            patience = self._deadlines.of(*question.key, failures)
        elif slowest is not None:
            patience = max(self._least, OTHERS * slowest) * 2.0**failures
        else:  # nothing says how long an answer takes
            return False
        return time.monotonic() - question.began > patience
