"""A grid without Flower's processes: messages go to worker processes on this machine.

To strategies it is what Flower's in-memory grid is: a message gets a name, and one reply, an error where its handler
raised one; nothing is delivered after its time-to-live. What differs is who carries it. A node gets its messages
one after the other; any worker that is free takes the next.

A worker that dies over a message is replaced, and the message given to the new one: an agent that is asked twice for
the same round answers twice the same. After `ATTEMPTS` the message is answered by an error.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from logging import WARNING
from typing import Protocol
from uuid import uuid4

from flwr.app import Error, Message
from flwr.common import log
from flwr.common.constant import SUPERLINK_NODE_ID, ErrorCode
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

from clients.protocol.content import from_bytes, to_bytes
from strategies.grids.wrapper import OurGrid

ATTEMPTS = 3
WAKE_SECONDS = 1.0  # between two looks whether a message's time is over
RUN = 1  # the only one of this process
FIRST_NODE = SUPERLINK_NODE_ID + 1


class Worker(Protocol):
    """Who answers messages, one at a time."""

    def ask(self, node: int, kind: str, content: bytes) -> tuple[bool, bytes]:
        """Whether the node's app answered, and its content; else why not. Raises OSError where the worker is gone."""
        ...

    def close(self) -> None: ...


@dataclass(eq=False)
class _Job:
    """A message that is to be answered; `reply` is None until it is."""

    message: Message
    node: int
    reply: Message | None = None

    @property
    def expired(self) -> bool:
        told = self.message.metadata
        return time.time() > told.created_at + told.ttl


class InMemoryGrid(OurGrid):
    """As above.

    Parameters
    ----------
    nodes : how many there are; all are always there
    workers : messages that are worked on at the same time
    hire : starts a worker
    """

    def __init__(self, nodes: int, workers: int, hire: Callable[[], Worker]) -> None:
        TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = RUN, SUPERLINK_NODE_ID, 1
        self._run = Run.create_empty(RUN)
        self._nodes = range(FIRST_NODE, FIRST_NODE + nodes)
        self._hire = hire
        self._jobs: dict[
            str, _Job
        ] = {}  # by message, in the order in which they came; until the reply is fetched
        self._waiting: list[_Job] = []
        self._busy: set[int] = set()  # nodes
        self._closed = False
        self._change = threading.Condition()  # guards all of these
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(min(workers, nodes))]
        for thread in self._threads:
            thread.start()

    def get_node_ids(self) -> Iterable[int]:
        return list(self._nodes)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Hand messages over; their names. Raises ValueError for a node that there is not."""
        names = []
        with self._change:
            for message in messages:
                node = message.metadata.dst_node_id
                if node not in self._nodes:
                    raise ValueError(f"message to node {node}: must be one of {self._nodes}")
                name = str(uuid4())
                message.metadata.__dict__["_message_id"] = name  # as Flower's own grids do
                self._jobs[name] = _Job(message, node)
                self._waiting.append(self._jobs[name])
                names.append(name)
            self._change.notify_all()
        return names

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """The replies that are there, in the order of their messages; an error for a message whose time is over."""
        wanted = set(message_ids)
        with self._change:
            return self._pull(wanted)

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Send, and wait for the replies; those that have not come after `timeout` seconds are missing."""
        wanted = set(self.push_messages(messages))
        deadline = None if timeout is None else time.monotonic() + timeout
        found: list[Message] = []
        with self._change:
            while True:
                new = self._pull(wanted)
                found += new
                wanted -= {reply.metadata.reply_to_message_id for reply in new}
                left = None if deadline is None else deadline - time.monotonic()
                if not wanted or (left is not None and left <= 0):
                    return found
                self._change.wait(WAKE_SECONDS if left is None else min(left, WAKE_SECONDS))

    def set_run(self, run: Run) -> None:
        self._run = run

    @property
    def run(self) -> Run:
        return self._run

    def close(self) -> None:
        """Take on no more work, and let workers go that have none."""
        with self._change:
            self._closed = True
            self._change.notify_all()

    def _pull(self, wanted: set[str]) -> list[Message]:
        found = []
        for name in [name for name in self._jobs if name in wanted]:
            job = self._jobs[name]
            if job.reply is None and job.expired:
                job.reply = _failure(job, ErrorCode.MESSAGE_UNAVAILABLE, "its time-to-live is over")
            if job.reply is not None:
                found.append(job.reply)
                del self._jobs[name]
        return found

    def _work(self) -> None:
        """A thread with a worker, until the grid is closed."""
        worker: Worker | None = None
        while (job := self._next()) is not None:
            worker, reply = self._answer(worker, job)
            with self._change:
                self._busy.discard(job.node)
                if job.reply is None:
                    job.reply = reply
                self._change.notify_all()
        if worker is not None:
            worker.close()

    def _next(self) -> _Job | None:
        """The oldest message of a node that is not busy, once there is one; None when the grid is closed."""
        with self._change:
            while not self._closed:
                self._waiting = [job for job in self._waiting if not job.expired]
                for job in self._waiting:
                    if job.node not in self._busy:
                        self._waiting.remove(job)
                        self._busy.add(job.node)
                        return job
                self._change.wait()
        return None

    def _answer(self, worker: Worker | None, job: _Job) -> tuple[Worker | None, Message]:
        """The job's reply, and who gave it, if that one lives."""
        kind, content = job.message.metadata.message_type, to_bytes(job.message.content)
        why = ""
        for _ in range(ATTEMPTS):
            try:
                worker = worker or self._hire()
                answered, body = worker.ask(job.node - FIRST_NODE, kind, content)
            except OSError as error:
                why = f"a worker process died over it ({error})"
                log(WARNING, "node %d, %s: %s", job.node, kind, why)
                if worker is not None:
                    worker.close()
                worker = None
                continue
            if answered:
                return worker, Message(from_bytes(body), reply_to=job.message)
            return worker, _failure(job, ErrorCode.CLIENT_APP_RAISED_EXCEPTION, body.decode(errors="replace"))
        return None, _failure(job, ErrorCode.CLIENT_APP_CRASHED, why)


def _failure(job: _Job, code: int, why: str) -> Message:
    return Message(Error(code, why), reply_to=job.message)
