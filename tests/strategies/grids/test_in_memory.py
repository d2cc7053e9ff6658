"""The grid in memory: every message gets one reply, whatever becomes of workers."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator

import pytest
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.common.constant import ErrorCode

from clients.protocol.content import from_bytes, to_bytes
from strategies.grids.in_memory import ATTEMPTS, FIRST_NODE, InMemoryGrid


class Workers:
    """Workers without processes: a function from (node, kind, content) to an answer, or an OSError."""

    def __init__(self, answer: Callable[[int, str, RecordDict], RecordDict]) -> None:
        self._answer = answer
        self.hired = self.closed = 0
        self.now: Counter[int] = Counter()
        self.most: Counter[int] = Counter()  # messages of one node that were worked on at a time

    def __call__(self) -> Workers:
        self.hired += 1
        return self

    def ask(self, node: int, kind: str, content: bytes) -> tuple[bool, bytes]:
        self.now[node] += 1
        self.most[node] = max(self.most[node], self.now[node])
        try:
            return True, to_bytes(self._answer(node, kind, from_bytes(content)))
        except ValueError as error:
            return False, str(error).encode()
        finally:
            self.now[node] -= 1

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def grids() -> Iterator[list[InMemoryGrid]]:
    made: list[InMemoryGrid] = []
    yield made
    for grid in made:
        grid.close()


def message(node: int, value: int = 0, ttl: float | None = None) -> Message:
    return Message(
        RecordDict({"config": ConfigRecord({"value": value})}), FIRST_NODE + node, "train", ttl=ttl
    )


def echo(node: int, kind: str, content: RecordDict) -> RecordDict:
    return RecordDict(
        {"config": ConfigRecord({"node": node, "kind": kind, **content.config_records["config"]})}
    )


def test_every_message_gets_its_own_reply_once(grids: list[InMemoryGrid]) -> None:
    grids.append(InMemoryGrid(3, 2, Workers(echo)))
    messages = [message(node, 10 * node) for node in (2, 0, 1)]
    replies = list(grids[0].send_and_receive(messages, timeout=10))
    said = {reply.metadata.reply_to_message_id: reply.content.config_records["config"] for reply in replies}
    for sent in messages:
        node = sent.metadata.dst_node_id - FIRST_NODE
        assert dict(said[sent.metadata.message_id]) == {"node": node, "kind": "train", "value": 10 * node}
        assert {r.metadata.src_node_id for r in replies} == set(grids[0].get_node_ids())
    assert list(grids[0].pull_messages([sent.metadata.message_id for sent in messages])) == []
    with pytest.raises(ValueError, match="must be one of"):
        grids[0].push_messages([message(3)])


def test_a_node_has_one_message_at_a_time_in_their_order(grids: list[InMemoryGrid]) -> None:
    seen: list[tuple[int, int]] = []

    def slow(node: int, kind: str, content: RecordDict) -> RecordDict:
        seen.append((node, int(content.config_records["config"]["value"])))
        time.sleep(0.01)
        return RecordDict()

    workers = Workers(slow)
    grids.append(InMemoryGrid(2, 2, workers))
    list(grids[0].send_and_receive([message(node, n) for n in range(5) for node in (0, 1)]))
    assert (
        [value for node, value in seen if node == 0]
        == [value for node, value in seen if node == 1]
        == [0, 1, 2, 3, 4]
    )
    assert workers.most == {0: 1, 1: 1} and workers.hired == 2


def test_what_an_agent_raises_is_an_error_with_flowers_code(grids: list[InMemoryGrid]) -> None:
    def fail(node: int, kind: str, content: RecordDict) -> RecordDict:
        raise ValueError("HomeError: the disk is full")

    workers = Workers(fail)
    grids.append(InMemoryGrid(1, 1, workers))
    (reply,) = grids[0].send_and_receive([message(0)])
    assert (reply.error.code, reply.error.reason) == (
        ErrorCode.CLIENT_APP_RAISED_EXCEPTION,
        "HomeError: the disk is full",
    )
    assert workers.hired == 1, "the worker lives"


@pytest.mark.parametrize("deaths", [1, ATTEMPTS - 1, ATTEMPTS])
def test_a_dead_worker_is_replaced_and_its_message_given_to_the_new_one(
    grids: list[InMemoryGrid], deaths: int
) -> None:
    left = [deaths]

    def die(node: int, kind: str, content: RecordDict) -> RecordDict:
        if node == 0 and left[0]:
            left[0] -= 1
            raise ConnectionResetError("gone")
        return echo(node, kind, content)

    workers = Workers(die)
    grids.append(InMemoryGrid(2, 1, workers))
    first, second = sorted(
        grids[0].send_and_receive([message(0, 7), message(1, 8)]),
        key=lambda reply: reply.metadata.src_node_id,
    )
    assert second.content.config_records["config"]["value"] == 8
    if deaths < ATTEMPTS:
        assert first.content.config_records["config"]["value"] == 7
    else:
        assert first.error.code == ErrorCode.CLIENT_APP_CRASHED and "gone" in first.error.reason
    assert workers.hired == deaths + 1 and workers.closed == deaths


def test_a_message_whose_time_is_over_is_an_error_and_is_not_begun(grids: list[InMemoryGrid]) -> None:
    free, seen = threading.Event(), []

    def wait(node: int, kind: str, content: RecordDict) -> RecordDict:
        seen.append(content.config_records["config"]["value"])
        free.wait(10)
        return RecordDict()

    grids.append(InMemoryGrid(1, 1, Workers(wait)))
    slow, late = message(0, 1, ttl=0.2), message(0, 2, ttl=0.2)
    replies = list(grids[0].send_and_receive([slow, late], timeout=10))
    assert [reply.error.code for reply in replies] == [ErrorCode.MESSAGE_UNAVAILABLE] * 2
    free.set()
    (reply,) = grids[0].send_and_receive([message(0, 3)], timeout=10)
    assert reply.has_content() and seen == [1, 3]


def test_missing_replies_are_not_waited_for_beyond_the_timeout(grids: list[InMemoryGrid]) -> None:
    free = threading.Event()

    def wait(node: int, kind: str, content: RecordDict) -> RecordDict:
        if node == 0:
            free.wait(10)
        return RecordDict()

    grids.append(InMemoryGrid(2, 2, Workers(wait)))
    slow = message(0)
    (reply,) = grids[0].send_and_receive([slow, message(1)], timeout=0.5)
    assert reply.metadata.src_node_id == FIRST_NODE + 1
    free.set()
    deadline = time.monotonic() + 10
    while not (late := list(grids[0].pull_messages([slow.metadata.message_id]))):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert late[0].has_content()
