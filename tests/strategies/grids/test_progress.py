"""Answers are counted as they come, and nothing else about the grid changes."""

from __future__ import annotations

import logging

import pytest
from at_once import AtOnce
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from clients.protocol.messages import CONFIG, ROUND
from strategies.grids.progress import ProgressGrid
from symphony_fl.launch.progress import Step, read_step


@pytest.fixture(autouse=True)
def identity() -> None:
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 1, 1


class Grid(AtOnce):
    """Its node 13 answers at the third look."""

    def __init__(self) -> None:
        super().__init__()
        self.looks = 0

    def answer(self, message: Message) -> Message:
        return Message(RecordDict(), reply_to=message)

    def pull_messages(self, message_ids: object) -> list[Message]:
        self.looks += 1
        names = [name for name in message_ids if self.looks > 2 or name != "message-3"]  # type: ignore[attr-defined]
        return super().pull_messages(names)


def _messages(kind: str, nodes: range, round: int) -> list[Message]:
    return [Message(RecordDict({CONFIG: ConfigRecord({ROUND: round})}), node, kind) for node in nodes]


def _steps(caplog: pytest.LogCaptureFixture) -> list[Step]:
    return [step for record in caplog.records if (step := read_step(record.getMessage())) is not None]


def test_a_rounds_answers_are_counted(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("flwr"), "propagate", True)
    caplog.set_level(logging.INFO, "flwr")
    grid = ProgressGrid(Grid(), 7)  # type: ignore[arg-type]
    replies = list(grid.send_and_receive(_messages("train", range(11, 14), 2), timeout=30))
    assert sorted(reply.metadata.src_node_id for reply in replies) == [11, 12, 13]
    assert _steps(caplog) == [Step("train", done, 3, 2, 7) for done in (0, 2, 3)]
    caplog.clear()
    grid.push_messages(_messages("query.hello", range(11, 14), 0))
    grid.push_messages(_messages("train", range(11, 12), 3))  # of an agent that is not in step
    assert _steps(caplog) == []
    evaluated = list(grid.send_and_receive(_messages("evaluate", range(11, 13), 2), timeout=30))
    assert len(evaluated) == 2 and _steps(caplog)[-1] == Step("evaluate", 2, 2, 2, 7)
