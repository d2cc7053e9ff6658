"""What a node fetched and took with it when it died is asked again; rounds in step wait for it no longer than usual."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from at_once import AtOnce
from flwr.app import Error, Message, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.task_identity import TaskIdentity
from loopback import real_network
from stopped_clock import StoppedClock

from strategies.grids.adaptive_timeouts import FIRST_SECONDS
from strategies.grids.retry import RetryGrid
from symphony_fl.build.checks import check_recipe
from symphony_fl.config.recipe import load_recipe
from symphony_fl.metrics.history import History

OFFLINE = 5  # Flower's code for a node that is away
PAUSE = 0.5  # seconds between two looks: a sum of them has no rounding


class Nodes(AtOnce):
    """Nodes that swallow some of what they are asked, and note when they were asked."""

    def __init__(self, swallow: dict[int, int]) -> None:
        super().__init__()
        self.clock = StoppedClock()
        self.swallow = swallow  # node -> how many messages are not answered
        self.times: dict[int, list[float]] = {}  # node -> seconds at which it was asked
        self.away: set[int] = set()

    @property
    def asked(self) -> dict[int, int]:
        return {node: len(times) for node, times in self.times.items()}

    def answer(self, message: Message) -> Message:
        if message.metadata.dst_node_id in self.away:
            return Message(Error(OFFLINE, "away"), reply_to=message)
        return Message(RecordDict(), reply_to=message)

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        ids = super().push_messages(messages)
        for message in messages:
            node = message.metadata.dst_node_id
            times = self.times.setdefault(node, [])
            times.append(self.clock.now)
            if len(times) <= self.swallow.get(node, 0):
                del self._replies[message.metadata.message_id]
        return ids


@pytest.fixture(autouse=True)
def task() -> None:
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 1, 1


def _grid(nodes: Nodes, least: float, most: float = 3600.0) -> RetryGrid:
    grid = RetryGrid(nodes, least=least, most=most, clock=nodes.clock, sleep=nodes.clock.sleep)  # type: ignore[arg-type]
    grid.pause_seconds = PAUSE
    return grid


def _messages(nodes: Iterable[int]) -> list[Message]:
    return [Message(RecordDict(), node, "train") for node in nodes]


def _asked(grid: RetryGrid, timeout: float | None = None) -> list[int]:
    """Nodes that answered, in order."""
    replies = grid.send_and_receive(_messages([11, 12, 13]), timeout=timeout)
    return sorted(reply.metadata.src_node_id for reply in replies)


def test_a_message_that_is_lost_is_sent_again_with_growing_patience() -> None:
    nodes = Nodes({12: 3})
    assert _asked(_grid(nodes, least=10.0)) == [11, 12, 13] and nodes.asked == {11: 1, 12: 4, 13: 1}
    # Each time at the first look after 10, 20 and 40 s from the beginning.
    assert nodes.times[12] == [0.0, 10 + PAUSE, 20 + PAUSE, 40 + PAUSE]


def test_whoever_answered_before_is_known_and_nobody_is_asked_early() -> None:
    nodes = Nodes({})
    grid = _grid(nodes, least=10.0)
    for _ in range(3):
        assert _asked(grid) == [11, 12, 13]
    assert nodes.asked == {11: 3, 12: 3, 13: 3} and nodes.clock.now == 0.0
    nodes.swallow = {11: 4, 12: 4, 13: 4}
    assert _asked(grid) == [11, 12, 13]
    assert nodes.times == {key: [0.0, 0.0, 0.0, 0.0, 10 + PAUSE] for key in (11, 12, 13)}


def test_where_nobody_has_ever_answered_it_waits_for_long() -> None:
    nodes = Nodes({11: 1, 12: 1, 13: 1})
    grid = _grid(nodes, least=10.0)
    assert _asked(grid, timeout=FIRST_SECONDS / 2) == []
    assert nodes.clock.now == FIRST_SECONDS / 2 and set(nodes.asked.values()) == {1}
    nodes.times.clear()
    assert _asked(grid) == [11, 12, 13]
    again = FIRST_SECONDS / 2 + FIRST_SECONDS + PAUSE
    assert nodes.times == {key: [FIRST_SECONDS / 2, again] for key in (11, 12, 13)}


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
    (reply,) = _grid(nodes, least=10.0, most=10.0).send_and_receive(_messages([11]))
    assert not reply.has_error() and nodes.asked == {11: 2}


def test_flowers_word_that_a_node_is_away_is_an_answer() -> None:
    nodes = Nodes({})
    nodes.away = {12}
    replies = list(_grid(nodes, least=10.0).send_and_receive(_messages([11, 12])))
    assert sorted((r.metadata.src_node_id, r.has_error()) for r in replies) == [(11, False), (12, True)]
    assert nodes.asked == {11: 1, 12: 1} and nodes.clock.now == 0.0


def test_real_agents_end_as_if_nothing_had_been_lost(play: Callable[..., History], tmp_path: Path) -> None:
    """An agent has done its round, and its reply is lost: asked again it answers the same, and books are true."""
    small = ("agents=2", "rounds=2", "learner.steps=1", "learner.prompts=2", "tasks.evaluate_every=2")
    recipe = check_recipe(load_recipe("smoke", (*small, "tracking.agents=false")))
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
        last = {e.agent: e.adapter for e in history.events("evaluate") if e.round == 2}
        refused = [n for e in history.events("train") for n in e.metrics if n.startswith("refused/")]
        found.append((last, history.total("bytes/sent"), refused))
    assert len(lost) == 2
    assert found[0] == found[1] and len(found[0][0]) == 2
