"""Every reply is taken in by itself: one that does not end holds up no other, and is given up at last."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator

import pytest
from at_once import AtOnce
from flwr.app import Message, RecordDict
from flwr.supercore.run import RunNotRunningException
from flwr.supercore.task_identity import TaskIdentity

from strategies.grids.per_message import PerMessageGrid


class Grid(AtOnce):
    """As Flower's for devices: a call does not return before every reply in it is there as a whole."""

    def __init__(self) -> None:
        super().__init__()
        self.cut: set[int] = set()  # nodes whose replies do not end
        self.mended = threading.Event()
        self.broken: BaseException | None = None

    def answer(self, message: Message) -> Message:
        return Message(RecordDict(), reply_to=message)

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        if self.broken is not None:
            raise self.broken
        found = super().pull_messages(message_ids)
        if any(reply.metadata.src_node_id in self.cut for reply in found):
            self.mended.wait(30)
        return found


@pytest.fixture
def grid() -> Iterator[Grid]:
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 1, 1
    found = Grid()
    yield found
    found.mended.set()


def _messages(nodes: Iterable[int]) -> list[Message]:
    return [Message(RecordDict(), node, "train") for node in nodes]


def _nodes(replies: Iterable[Message]) -> list[int]:
    return sorted(reply.metadata.src_node_id for reply in replies)


def test_a_reply_that_does_not_end_holds_up_no_other_and_is_had_when_it_is_there(grid: Grid) -> None:
    apart = PerMessageGrid(grid)  # type: ignore[arg-type]
    grid.cut = {12}
    ids = list(apart.push_messages(_messages([11, 12, 13])))
    assert _nodes(apart.pull_messages(ids)) == [11, 13]
    began = time.monotonic()
    assert list(apart.pull_messages(ids[1:2])) == [] and time.monotonic() - began < 0.9, (
        "nobody waits for it again"
    )
    grid.mended.set()
    found: list[Message] = []
    while not found and time.monotonic() - began < 20:
        found = list(apart.pull_messages(ids[1:2]))
    assert _nodes(found) == [12] and not found[0].has_error()


def test_one_that_takes_too_long_is_given_up_by_an_error_that_names_it(grid: Grid) -> None:
    apart = PerMessageGrid(grid, longest=1.5)  # type: ignore[arg-type]
    grid.cut = {12}
    replies = list(apart.send_and_receive(_messages([11, 12, 13]), timeout=20.0))
    failed = [reply for reply in replies if reply.has_error()]
    assert _nodes(replies) == [11, 12, 13] and _nodes(failed) == [12]
    assert "arriving for more than 1.5 s" in failed[0].error.reason


def test_more_messages_than_are_asked_after_at_once_all_have_their_turn(grid: Grid) -> None:
    apart = PerMessageGrid(grid)  # type: ignore[arg-type]
    grid.cut = {1, 2, 3}
    waiting = set(apart.push_messages(_messages(range(40))))
    found: list[Message] = []
    for _ in range(6):
        new = list(apart.pull_messages(waiting))
        waiting -= {reply.metadata.reply_to_message_id for reply in new}
        found += new
    assert _nodes(found) == [0, *range(4, 40)]


def test_what_nobody_answers_ends_with_the_time_given(grid: Grid) -> None:
    apart = PerMessageGrid(grid)  # type: ignore[arg-type]
    grid.cut = {12}
    assert _nodes(apart.send_and_receive(_messages([11, 12]), timeout=2.0)) == [11]


def test_an_error_of_the_grid_is_raised_where_the_reply_is_asked_for(grid: Grid) -> None:
    apart = PerMessageGrid(grid)  # type: ignore[arg-type]
    ids = list(apart.push_messages(_messages([11])))
    grid.broken = RunNotRunningException("it has been stopped")
    with pytest.raises(RunNotRunningException, match="has been stopped"):
        apart.pull_messages(ids)


def test_replies_that_nobody_asks_for_any_more_are_forgotten(grid: Grid) -> None:
    apart = PerMessageGrid(grid, longest=1.5)  # type: ignore[arg-type]
    grid.cut = {11}
    old, new = (list(apart.push_messages(_messages([node]))) for node in (11, 12))
    assert list(apart.pull_messages(old)) == []
    time.sleep(1.6)
    assert _nodes(apart.pull_messages(new)) == [12]
    assert not (apart._pulls or apart._asked or apart._sent)
