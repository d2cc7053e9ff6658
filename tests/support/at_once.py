"""A grid whose nodes answer as soon as they are asked, by a function of the test's."""

from __future__ import annotations

from collections.abc import Iterable

from flwr.app import Message


class AtOnce:
    """Subclasses say who is there (`get_node_ids`) and what a node answers (`answer`)."""

    def __init__(self) -> None:
        self._replies: dict[str, Message] = {}
        self._pushed = 0

    def answer(self, message: Message) -> Message:
        raise NotImplementedError

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        ids = []
        for message in messages:
            self._pushed += 1
            message.metadata.__dict__["_message_id"] = f"message-{self._pushed}"  # as Flower's own grids do
            ids.append(message.metadata.message_id)
            self._replies[ids[-1]] = self.answer(message)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        return [self._replies.pop(name) for name in message_ids if name in self._replies]
