"""Gets jobs answered: sends a job's message, waits, and sends it again until the agent has answered.

Every failure is handled by retrying: an agent asked twice for the same round gives the same answer. Flower loses the
messages of a node that dies; agents sleep, restart under other node ids, or answer too late. A message lives as long as
its answer is waited for (Flower's time-to-live), so that none is delivered after the next was sent. No call here
blocks: `turn` does what can be done now.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from logging import INFO, WARNING

from flwr.app import ConfigRecord, Message, RecordDict
from flwr.common import log
from flwr.serverapp import Grid

from clients.protocol.messages import CONFIG, MAIL, ROUND, pack_envelopes
from strategies.grids.adaptive_timeouts import AdaptiveTimeouts
from strategies.recorder import Recorder, Report
from strategies.roster import Member, Roster

REFRESH_SECONDS = 3.0  # between two looks at who is there
BACKOFF_SECONDS, MOST_BACKOFF = 1.0, 60.0  # before asking again: doubled with every failure
PATIENCE = 3  # failures in a row after which an agent counts as away


@dataclass
class Job:
    """What an agent is asked for.

    Attributes
    ----------
    kind : Flower's message type, train or evaluate
    number : of the round asked for: the agent's own (train), the network's (evaluate)
    mail : label -> envelope, as it was when the job began; asking again brings the same
    rounds : of the network, that an evaluation counts for
    failures : times it was not answered
    broken : whether the last failure was the agent's own word, such as an exception it raised
    """

    kind: str
    number: int
    mail: Mapping[str, bytes]
    rounds: tuple[int, ...] = ()
    failures: int = 0
    broken: bool = False
    sent: str | None = None  # Flower's id of the message under way
    node: int = 0
    first: float | None = None  # when it was sent first, and what follows: monotonic seconds
    until: float = 0.0
    again: float = 0.0


@dataclass
class Answer:
    """A job's reply, read and checked."""

    job: Job
    report: Report
    message: Message


class Dispatcher:
    """One job per agent at a time.

    Parameters
    ----------
    grid : Flower's
    roster, recorder, timeouts : of the run
    config : what every message carries
    introduction : (agent, round) -> of whom an agent is told with it
    """

    def __init__(
        self,
        grid: Grid,
        roster: Roster,
        recorder: Recorder,
        timeouts: AdaptiveTimeouts,
        config: ConfigRecord,
        introduction: Callable[[int, int], Mapping[str, str | bytes]],
    ) -> None:
        self.jobs: dict[int, Job] = {}
        self.answers: dict[int, Answer] = {}
        self.last_sign = time.monotonic()  # of life, from anybody
        self._grid = grid
        self._roster = roster
        self._recorder = recorder
        self._timeouts = timeouts
        self._config = config
        self._introduction = introduction
        self._sent: dict[str, int] = {}  # messages under way: Flower's id -> agent
        self._refresh = 0.0

    def begin(self, agent: int, job: Job) -> None:
        """Have a job done. The agent must have none."""
        if agent in self.jobs:
            raise ValueError(f"agent {agent}: has a job already")
        self.jobs[agent] = job

    def take(self, agent: int) -> Answer:
        """The agent's answer; it is free for another job."""
        del self.jobs[agent]
        return self.answers.pop(agent)

    def away(self) -> set[int]:
        """Agents that have failed to answer too often to be waited for."""
        return {
            agent
            for agent, job in self.jobs.items()
            if job.failures >= PATIENCE and agent not in self.answers
        }

    def hopeless(self) -> bool:
        """Every job is one that its agent said it cannot do, again and again."""
        return bool(self.jobs) and all(
            agent in self.away() and job.broken for agent, job in self.jobs.items()
        )

    def turn(self) -> bool:
        """Greet who is new, send what is to be sent, take in what has come. Whether anything came."""
        now = time.monotonic()
        if now >= self._refresh:
            self._refresh = now + REFRESH_SECONDS
            self._roster.refresh(self._grid)
        came = self._roster.hear(self._grid)
        members = {member.agent: member for member in self._roster.members()}
        present = {member.agent for member in self._roster.present()}
        for agent, job in self.jobs.items():
            if agent not in self.answers:
                self._see_to(job, members[agent], agent in present, now)
        return self._collect() or came

    def _see_to(self, job: Job, member: Member, present: bool, now: float) -> None:
        moved = job.node not in (0, member.node)
        if job.sent is not None and moved:
            log(INFO, "agent %d is back under another node id", member.agent)
            self._forget(job)
            job.again = now
        if job.sent is not None:
            if now > job.until:
                self._fail(member.agent, job, "no answer in time")
        elif present and (now >= job.again or moved):
            self._send(job, member, now)
        elif now >= job.again:
            self._fail(member.agent, job, "not connected")

    def _send(self, job: Job, member: Member, now: float) -> None:
        told = self._introduction(member.agent, job.number)
        config = ConfigRecord({**self._config, ROUND: job.number, **told})
        content = RecordDict({CONFIG: config, MAIL: pack_envelopes(job.mail)})
        seconds = self._timeouts.of(member.agent, job.kind, job.failures)
        message = Message(content, member.node, job.kind, ttl=seconds)
        job.node = member.node
        job.sent = self._push(message)
        if job.sent is None:
            self._fail(member.agent, job, "Flower does not know its node")
            return
        self._sent[job.sent] = member.agent
        job.first = now if job.first is None else job.first
        job.until = now + seconds
        self._recorder.message(member.agent, message)

    def _push(self, message: Message) -> str | None:
        """Flower's id of the message, or None where it could not be taken."""
        ids = list(self._grid.push_messages([message]))
        return ids[0] or None if ids else None

    def _collect(self) -> bool:
        replies = list(self._grid.pull_messages(list(self._sent))) if self._sent else []
        for reply in replies:
            agent = self._sent.pop(reply.metadata.reply_to_message_id, None)
            if agent is not None:
                self._take_in(agent, reply)
        return bool(replies)

    def _take_in(self, agent: int, reply: Message) -> None:
        job = self.jobs[agent]
        job.sent = None
        report = self._recorder.read(job.kind, job.number, agent, reply)
        if report is None:
            self._fail(agent, job, "failed", broken=not reply.has_error() or _said_by_agent(reply))
            return
        now = time.monotonic()
        self.last_sign = now
        assert job.first is not None
        self._timeouts.answered(agent, job.kind, now - job.first)
        self.answers[agent] = Answer(job, report, reply)

    def _fail(self, agent: int, job: Job, why: str, broken: bool = False) -> None:
        self._forget(job)
        job.failures += 1
        job.broken = broken
        pause = min(MOST_BACKOFF, BACKOFF_SECONDS * 2.0 ** min(job.failures - 1, 16))
        job.again = time.monotonic() + pause
        log(WARNING, "agent %d: %s; asked again in %.0f s (%d)", agent, why, pause, job.failures)

    def _forget(self, job: Job) -> None:
        """Whatever is answered to the message under way, it comes too late."""
        if job.sent is not None:
            self._sent.pop(job.sent, None)
            job.sent = None


def _said_by_agent(reply: Message) -> bool:
    """Whether an error is the ClientApp's word (codes 1 and 2) rather than Flower's about a node it lost."""
    return reply.error.code in (1, 2)
