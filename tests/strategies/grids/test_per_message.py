"""Every reply is taken in by itself: one that does not end holds up no other, and is given up at last."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator

import pytest
from at_once import AtOnce
from flwr.app import Message, RecordDict
from flwr.supercore.run import RunNotRunningException
from flwr.supercore.task_identity import TaskIdentity
from stopped_clock import StoppedClock

from strategies.grids import per_message
from strategies.grids.per_message import PerMessageGrid


class Grid(AtOnce):
    """As Flower's for devices: a call does not return before every reply in it is there as a whole."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = StoppedClock()
        self.cut: set[int] = set()  # nodes whose replies do not end
        self.asked_after: Counter[str] = Counter()
        self.stuck = 0  # calls that wait for such a reply
        self.mended = threading.Event()
        self.broken: BaseException | None = None

    def answer(self, message: Message) -> Message:
        return Message(RecordDict(), reply_to=message)

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        if self.broken is not None:
            raise self.broken
        names = list(message_ids)
        self.asked_after.update(names)
        found = super().pull_messages(names)
        if any(reply.metadata.src_node_id in self.cut for reply in found):
            self.stuck += 1
            self.mended.wait(30)
            self.stuck -= 1
        return found


class Settled(threading.Condition):
    """Waits until every call has either returned or is stuck: how long that takes is not what is tested.

    Attributes
    ----------
    waits : how often a call was not over at once
    """

    def __init__(self, grid: Grid, apart: PerMessageGrid) -> None:
        super().__init__()
        self.grid, self.apart, self.waits = grid, apart, 0

    def wait_for(self, predicate: Callable[[], bool], timeout: float | None = None) -> bool:
        first = not predicate()
        self.waits += first
        while not predicate() and sum(not p.done for p in self.apart._pulls.values()) > self.grid.stuck:
            self.wait(0.005)
        return predicate()


@pytest.fixture
def grid() -> Iterator[Grid]:
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 1, 1
    found = Grid()
    yield found
    found.mended.set()


def _apart(grid: Grid, longest: float = 300.0) -> PerMessageGrid:
    found = PerMessageGrid(grid, longest, clock=grid.clock, sleep=grid.clock.sleep)  # type: ignore[arg-type]
    found._change = Settled(grid, found)
    return found


def _messages(nodes: Iterable[int]) -> list[Message]:
    return [Message(RecordDict(), node, "train") for node in nodes]


def _nodes(replies: Iterable[Message]) -> list[int]:
    return sorted(reply.metadata.src_node_id for reply in replies)


def test_a_reply_that_does_not_end_holds_up_no_other_and_is_had_when_it_is_there(grid: Grid) -> None:
    apart = _apart(grid)
    grid.cut = {12}
    ids = list(apart.push_messages(_messages([11, 12, 13])))
    assert _nodes(apart.pull_messages(ids)) == [11, 13]
    waits = apart._change.waits  # type: ignore[attr-defined]
    assert list(apart.pull_messages(ids[1:2])) == []
    assert apart._change.waits == waits, "nobody waits for it again"  # type: ignore[attr-defined]
    assert grid.asked_after[ids[1]] == 1
    pull = apart._pulls[ids[1]]
    grid.mended.set()
    with apart._change:
        assert threading.Condition.wait_for(apart._change, lambda: pull.done, 20)
    (found,) = apart.pull_messages(ids[1:2])
    assert _nodes([found]) == [12] and not found.has_error()
    assert grid.asked_after[ids[1]] == 1


def test_a_reply_is_given_no_longer_than_a_moment_by_the_clock_of_the_machine(
    grid: Grid, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(per_message, "BRIEFLY", 0.01)
    grid.cut = {12}
    apart = PerMessageGrid(grid)  # type: ignore[arg-type]
    assert list(apart.pull_messages(list(apart.push_messages(_messages([12]))))) == []
    assert not grid.mended.is_set()


def test_one_that_takes_too_long_is_given_up_by_an_error_that_names_it(grid: Grid) -> None:
    apart = _apart(grid, longest=1.5)
    grid.cut = {12}
    replies = list(apart.send_and_receive(_messages([11, 12, 13]), timeout=20.0))
    failed = [reply for reply in replies if reply.has_error()]
    assert _nodes(replies) == [11, 12, 13] and _nodes(failed) == [12]
    assert "arriving for more than 1.5 s" in failed[0].error.reason
    assert grid.clock.now == 2.0, "at the first look after that"


def test_more_messages_than_are_asked_after_at_once_all_have_their_turn(grid: Grid) -> None:
    apart = _apart(grid)
    grid.cut = {1, 2, 3}
    waiting = set(apart.push_messages(_messages(range(40))))
    found: list[Message] = []
    for _ in range(6):
        new = list(apart.pull_messages(waiting))
        assert len(new) <= per_message.AT_ONCE
        waiting -= {reply.metadata.reply_to_message_id for reply in new}
        found += new
    assert _nodes(found) == [0, *range(4, 40)]


def test_what_nobody_answers_ends_with_the_time_given(grid: Grid) -> None:
    apart = _apart(grid)
    grid.cut = {12}
    assert _nodes(apart.send_and_receive(_messages([11, 12]), timeout=2.0)) == [11]
    assert grid.clock.now == 2.0


def test_an_error_of_the_grid_is_raised_where_the_reply_is_asked_for(grid: Grid) -> None:
    apart = _apart(grid)
    ids = list(apart.push_messages(_messages([11])))
    grid.broken = RunNotRunningException("it has been stopped")
    with pytest.raises(RunNotRunningException, match="has been stopped"):
        apart.pull_messages(ids)


def test_replies_that_nobody_asks_for_any_more_are_forgotten(grid: Grid) -> None:
    apart = _apart(grid, longest=1.5)
    grid.cut = {11}
    old, new = (list(apart.push_messages(_messages([node]))) for node in (11, 12))
    assert list(apart.pull_messages(old)) == []
    grid.clock.sleep(1.6)
    assert _nodes(apart.pull_messages(new)) == [12]
    assert not (apart._pulls or apart._asked or apart._sent)
