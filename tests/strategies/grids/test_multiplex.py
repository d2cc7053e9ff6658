"""Many agents behind one node: each is asked and answers as if it had its own; what one node says badly stays there.

The network between the two halves is a list here; real Flower carries them in `end_to_end/test_many.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid
from flwr.supercore.task_identity import TaskIdentity

from clients.protocol.messages import config_value
from clients.protocol.multiplex import FAILED, each_agent, pack_batch, pack_content, unpack_batch
from strategies.grids.multiplex import MultiplexGrid

Damage = Callable[[dict[str, bytes]], RecordDict]


@pytest.fixture(autouse=True)
def _server(monkeypatch: pytest.MonkeyPatch) -> None:
    """Messages are made as by a ServerApp of Flower's."""
    for name in ("_task_id", "_run_id", "_node_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)


app = ClientApp(mods=[each_agent])


@app.train()
def train(message: Message, context: Context) -> Message:
    number = int(context.node_config["partition-id"])
    if number == 4:
        raise RuntimeError("agent 4 is not well")
    said = (
        f"{number} heard {config_value(message.content, 'word', str)}, home {context.node_config.get('home')}"
    )
    return Message(RecordDict({"config": ConfigRecord({"said": said})}), reply_to=message)


class Loop(Grid):
    """Two nodes that answer at once; `damage` is done to the replies of the second."""

    def __init__(self, damage: Damage | None = None) -> None:
        self.damage = damage
        self.replies: dict[str, Message] = {}
        self.pushed = 0

    def set_run(self, run: Any) -> None:
        raise NotImplementedError

    @property
    def run(self) -> Any:
        raise NotImplementedError

    def create_message(self, *_: Any) -> Message:
        raise NotImplementedError

    def get_node_ids(self) -> Iterable[int]:
        return [700, 800]

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        for message in messages:
            self.pushed += 1
            name = f"message-{self.pushed}"
            message.metadata.__dict__["_message_id"] = name
            node = message.metadata.dst_node_id
            config = {"partition-id": 0 if node == 700 else 1, "home": "/agents"}
            reply = app(message, Context(1, node, config, RecordDict(), {}))
            if self.damage is not None and node == 800:
                reply = Message(self.damage(unpack_batch(reply.content)), reply_to=message)
            self.replies[name] = reply
            yield name

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        return [self.replies.pop(name) for name in message_ids if name in self.replies]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:
        raise NotImplementedError


def _ask(loop: Loop) -> dict[int, str]:
    """Node id as the strategy sees it -> what came back."""
    grid = MultiplexGrid(loop, 3)
    nodes = list(grid.get_node_ids())
    assert nodes == list(grid.get_node_ids()), "ids last"
    content = {node: RecordDict({"config": ConfigRecord({"word": f"w{node}"})}) for node in nodes}
    replies = list(
        grid.send_and_receive([Message(content[node], node, "train") for node in nodes], timeout=5)
    )
    assert len(replies) == len(nodes) and loop.pushed == 2
    return {
        reply.metadata.src_node_id: reply.error.reason
        if reply.has_error()
        else config_value(reply.content, "said", str)
        for reply in replies
    }


def test_each_agent_is_asked_its_own_and_one_that_fails_harms_no_other() -> None:
    said = _ask(Loop())
    wanted = {place + 1: f"{place} heard w{place + 1}, home /agents/{place:04d}" for place in range(6)}
    assert said == wanted | {5: "RuntimeError: agent 4 is not well"}


def test_what_a_node_says_badly_is_an_error_of_its_agents_only() -> None:
    strange = pack_content(RecordDict({"config": ConfigRecord({"said": "me"})}))
    cases: list[tuple[Damage, str]] = [
        (lambda parts: RecordDict(), "the node's reply does not hold it"),
        (lambda parts: pack_batch({}), "the node's reply does not hold it"),
        (lambda parts: pack_batch({slot: b"\xff\xff\xff" for slot in parts}), "batch: "),
        (lambda parts: pack_batch({f"{slot}{FAILED}": b"\xff" for slot in "012"}), "\ufffd"),
        (lambda parts: pack_batch({"7": strange, "700": strange}), "the node's reply does not hold it"),
    ]
    for damage, reason in cases:
        said = _ask(Loop(damage))
        assert sorted(said) == [1, 2, 3, 4, 5, 6]
        assert all(said[node].startswith(f"{node - 1} heard") for node in (1, 2, 3))
        assert all(said[node].startswith(reason) for node in (4, 6)), (said, reason)


def test_replies_are_pulled_by_their_own_numbers() -> None:
    grid = MultiplexGrid(Loop(), 2)
    nodes = list(grid.get_node_ids())
    content = RecordDict({"config": ConfigRecord({"word": "w"})})
    first, second = grid.push_messages([Message(content, node, "train") for node in nodes[:2]])
    (reply,) = grid.pull_messages([second])
    assert (reply.metadata.reply_to_message_id, reply.metadata.src_node_id) == (second, nodes[1])
    assert [item.metadata.reply_to_message_id for item in grid.pull_messages([first, second])] == [first]
    assert list(grid.pull_messages([first, second, "unknown/1", "unknown"])) == []
