"""What a node fetched and took with it when it died is asked again; rounds in step wait for it no longer than usual."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from at_once import AtOnce
from flwr.app import Error, Message, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.task_identity import TaskIdentity
from loopback import real_network

from strategies.grids import adaptive_timeouts as timeouts
from strategies.grids.retry import RetryGrid
from symphony_fl.build.checks import check_recipe
from symphony_fl.config.recipe import load_recipe
from symphony_fl.metrics.history import History

OFFLINE = 5  # Flower's code for a node that is away


class Nodes(AtOnce):
    """Nodes that swallow some of what they are asked."""

    def __init__(self, swallow: dict[int, int]) -> None:
        super().__init__()
        self.swallow = swallow  # node -> how many messages are not answered
        self.asked: Counter[int] = Counter()
        self.away: set[int] = set()

    def answer(self, message: Message) -> Message:
        if message.metadata.dst_node_id in self.away:
            return Message(Error(OFFLINE, "away"), reply_to=message)
        return Message(RecordDict(), reply_to=message)

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        ids = super().push_messages(messages)
        for message in messages:
            node = message.metadata.dst_node_id
            self.asked[node] += 1
            if self.asked[node] <= self.swallow.get(node, 0):
                del self._replies[message.metadata.message_id]
        return ids


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 1, 1
    monkeypatch.setattr(RetryGrid, "pause_seconds", 0.02)


def _messages(nodes: Iterable[int]) -> list[Message]:
    return [Message(RecordDict(), node, "train") for node in nodes]


def _asked(nodes: Nodes, grid: RetryGrid, *, timeout: float = 20.0) -> tuple[list[int], float]:
    """Nodes that answered, in order, and the seconds it took."""
    began = time.monotonic()
    replies = grid.send_and_receive(_messages([11, 12, 13]), timeout=timeout)
    return sorted(reply.metadata.src_node_id for reply in replies), time.monotonic() - began


def test_a_message_that_is_lost_is_sent_again_with_growing_patience() -> None:
    nodes = Nodes({12: 3})
    grid = RetryGrid(nodes, least=0.2)  # type: ignore[arg-type]
    found, seconds = _asked(nodes, grid)
    assert found == [11, 12, 13] and nodes.asked == {11: 1, 12: 4, 13: 1}
    assert 0.2 * 4 <= seconds < 5, "after 0.2, 0.4 and 0.8 s"


def test_whoever_answered_before_is_known_and_nobody_is_asked_early() -> None:
    nodes = Nodes({})
    grid = RetryGrid(nodes, least=0.2)  # type: ignore[arg-type]
    for _ in range(3):
        assert _asked(nodes, grid)[0] == [11, 12, 13]
    assert nodes.asked == {11: 3, 12: 3, 13: 3}
    nodes.swallow = {11: 4, 12: 4, 13: 4}
    assert _asked(nodes, grid)[0] == [11, 12, 13]
    assert nodes.asked == {11: 5, 12: 5, 13: 5}


def test_where_nobody_has_ever_answered_it_waits_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = Nodes({11: 1, 12: 1, 13: 1})
    grid = RetryGrid(nodes, least=0.01)  # type: ignore[arg-type]
    found, seconds = _asked(nodes, grid, timeout=0.6)
    assert found == [] and 0.6 <= seconds < 2 and set(nodes.asked.values()) == {1}
    monkeypatch.setattr(timeouts, "FIRST_SECONDS", 0.3)
    nodes.asked.clear()
    found, seconds = _asked(nodes, grid)
    assert found == [11, 12, 13] and seconds >= 0.3 and set(nodes.asked.values()) == {2}


def test_an_error_of_a_lost_message_does_not_overrule_the_one_sent_after_it() -> None:
    """Given up while its reply was arriving, say: the copy's answer is still to come."""

    class Late(Nodes):
        def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
            names = set(message_ids)
            if len(names) == 2:  # the copy is under way
                self.away = set()
                first = min(names)
                stub = Message(RecordDict(), 11, "train")
                stub.metadata.__dict__["_message_id"] = first
                names.discard(first)
                return [Message(Error(3, "given up"), reply_to=stub)]
            return super().pull_messages(names) if self.asked[11] == 2 else []

    nodes = Late({11: 1})
    deadline = RetryGrid(nodes, least=0.1, most=0.1)  # type: ignore[arg-type]
    (reply,) = deadline.send_and_receive(_messages([11]), timeout=5.0)
    assert not reply.has_error() and nodes.asked == {11: 2}


def test_flowers_word_that_a_node_is_away_is_an_answer() -> None:
    nodes = Nodes({})
    nodes.away = {12}
    grid = RetryGrid(nodes, least=0.1)  # type: ignore[arg-type]
    replies = list(grid.send_and_receive(_messages([11, 12]), timeout=5.0))
    assert sorted((r.metadata.src_node_id, r.has_error()) for r in replies) == [(11, False), (12, True)]
    assert nodes.asked == {11: 1, 12: 1}


def test_real_agents_end_as_if_nothing_had_been_lost(play: Callable[..., History], tmp_path: Path) -> None:
    """An agent has done its round, and its reply is lost: asked again it answers the same, and books are true."""
    recipe = check_recipe(load_recipe("smoke", ["rounds=3", "learner.steps=1", "tasks.evaluate_every=3"]))
    lost: set[int] = set()

    def swallowed(agent: int, message: Message) -> bool:
        """Agent 1's first two replies to a round."""
        if agent != 1 or message.metadata.message_type != "train" or len(lost) == 2:
            return False
        lost.add(len(lost))
        return True

    found = []
    for name in ("calm", "lossy"):
        loop = real_network(recipe, tmp_path / name)
        around: Callable[[Grid], Grid] = lambda grid: RetryGrid(grid, least=0.3)  # noqa: E731
        if name == "lossy":
            loop.lost = swallowed
        history = play(recipe, loop, name=name, around=around)
        last = {e.agent: e.adapter for e in history.events("evaluate") if e.round == 3}
        refused = [n for e in history.events("train") for n in e.metrics if n.startswith("refused/")]
        found.append((last, history.total("bytes/sent"), refused))
    assert len(lost) == 2
    assert found[0] == found[1] and len(found[0][0]) == 3
