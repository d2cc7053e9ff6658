"""A grid on which every agent seems to have a node of its own, where in truth many share one.

Flower's in-memory state looks through all messages for every node that asks: its cost per round grows with the square
of the number of nodes. With `agents_per_node` a SuperNode stands for many agents, and this grid puts their messages
into one (`clients/protocol/multiplex.py`). Strategies, roster, mailbox and books see one node per agent and need no
change: mail between agents of one node goes through the mailbox like any other, and is counted like any other.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from logging import WARNING

from flwr.app import Error, Message
from flwr.common import log
from flwr.serverapp import Grid

from clients.protocol.messages import MessageError
from clients.protocol.multiplex import FAILED, batch_for, pack_content, unpack_batch, unpack_content
from strategies.grids.wrapper import GridWrapper

PULL_SECONDS = 0.05
CLIENT_ERROR = 2  # Flower's code for a ClientApp that raised

Slot = tuple[int, str]  # a node and the place of an agent on it


class MultiplexGrid(GridWrapper):
    """`per_node` agents behind every node of a grid.

    Parameters
    ----------
    grid : Flower's
    per_node : agents on each node; the last node may have spare places, whose agents take no part
    """

    pause_seconds = PULL_SECONDS

    def __init__(self, grid: Grid, per_node: int) -> None:
        super().__init__(grid)
        self._per_node = per_node
        self._ids: dict[Slot, int] = {}
        self._slots: dict[int, Slot] = {}
        self._waiting: dict[str, dict[str, Message]] = {}  # batch sent -> slot -> the agent's message
        self._ready: dict[str, Message] = {}  # message -> its reply

    def get_node_ids(self) -> Iterable[int]:
        """One id per agent: made here, as lasting as the node's."""
        return [
            self._id((node, str(place)))
            for node in self._grid.get_node_ids()
            for place in range(self._per_node)
        ]

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Send all messages of one kind for one node as one."""
        groups: dict[tuple[int, str, float], dict[str, Message]] = defaultdict(dict)
        for message in messages:
            node, slot = self._slots[message.metadata.dst_node_id]
            groups[node, message.metadata.message_type, message.metadata.ttl][slot] = message
        pushed: list[str] = []
        for (node, kind, ttl), parts in groups.items():
            content = batch_for(
                {slot: pack_content(part.content) for slot, part in parts.items()}, self._per_node
            )
            for batch in self._grid.push_messages([Message(content, node, kind, ttl=ttl)]):
                self._waiting[batch] = parts
                for slot, part in parts.items():
                    part.metadata.__dict__["_message_id"] = f"{batch}/{slot}"  # as Flower's own grids do
                    pushed.append(part.metadata.message_id)
        return pushed

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """The replies that are there, each as from a node of its own."""
        wanted = list(message_ids)
        batches = {name.rpartition("/")[0] for name in wanted} & self._waiting.keys()
        for reply in self._grid.pull_messages(batches) if batches else ():
            self._split(reply)
        return [self._ready.pop(name) for name in wanted if name in self._ready]

    def _id(self, slot: Slot) -> int:
        if slot not in self._ids:
            self._ids[slot] = len(self._ids) + 1
            self._slots[self._ids[slot]] = slot
        return self._ids[slot]

    def _split(self, reply: Message) -> None:
        """A node's reply: what it says of agents it was not asked about is dropped, what is missing is an error."""
        parts = self._waiting.pop(reply.metadata.reply_to_message_id, {})
        answers: dict[str, bytes] = {}
        failure = (
            reply.error if reply.has_error() else Error(CLIENT_ERROR, "the node's reply does not hold it")
        )
        if not reply.has_error():
            try:
                answers = unpack_batch(reply.content)
            except MessageError as error:
                log(WARNING, "node %d: refused: %s", reply.metadata.src_node_id, error)
        for slot, message in parts.items():
            answer = failure
            if slot + FAILED in answers:
                answer = Error(CLIENT_ERROR, answers[slot + FAILED].decode(errors="replace"))
            if slot in answers:
                try:
                    self._ready[message.metadata.message_id] = Message(
                        unpack_content(answers[slot]), reply_to=message
                    )
                    continue
                except MessageError as error:
                    answer = Error(CLIENT_ERROR, str(error))
            self._ready[message.metadata.message_id] = Message(answer, reply_to=message)
