"""Asynchronous gossip: no round barrier (the paper, sections 3 and 5.1; mail goes the way it does in `gossip`).

Every agent goes from one round of its own to the next; what it shares reaches each neighbour with the neighbour's next
message. A slow, sleeping or lost agent does not delay the others. The run ends when all agents together have finished
agents x rounds, the same number of samples as that many synchronous rounds. A faster agent does more of the rounds.

    while rounds are left:
        each idle agent begins a job            an evaluation that is due, else its next round, with its mail
        the dispatcher carries messages         `dispatcher.py`: timeouts, retries, newcomers, agents that are back
        the clock says whose job ends           `clocks.py`: by virtual time, or as replies arrive
        for each of those: record its report, post its envelopes to its neighbours

The network's round is the mean of the agents' rounds: the k-th round finished by any agent belongs to ceil(k / N) and
is recorded under that number, with the agent's own. When the network's round is over, an evaluation is due for all
agents. Each does it before its next round, and it takes no virtual time. With the virtual clock and agents of one
speed, this strategy is bit-identical to synchronous gossip.

Departures from AD-PSGD (Lian et al. 2018, arXiv 1710.06952), the usual asynchronous gossip: an edge is not one atomic
averaging of both ends; each end merges when it gets its mail, and weighs it by its staleness (`exchange/staleness.py`).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from logging import INFO

from flwr.app import ArrayRecord, ConfigRecord, MessageType
from flwr.common import log
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Result

from strategies.asynchrony.clocks import Clock, VirtualClock
from strategies.asynchrony.dispatcher import Answer, Dispatcher, Job
from strategies.grids.adaptive_timeouts import AdaptiveTimeouts
from strategies.mail_router import MailRouter
from strategies.recorder import Recorder
from strategies.roster import Member, Roster
from symphony_fl.exchange.topology import Topology

Times = Mapping[int, Mapping[int, float]]  # agent -> its own recorded rounds -> when they ended
PAUSE_SECONDS, MOST_PAUSE = 0.02, 0.5  # between two turns in which nothing came, growing


class SilenceError(RuntimeError):
    """No agent answers any more; the message says for how long, or what they said last."""


class AsyncGossip:
    """Gossip without a round barrier. No `Strategy` of Flower's, whose hooks are called round by round.

    Parameters
    ----------
    topology : the graph, the same in all rounds
    roster : the agents that are there at the start; others may join later
    recorder : where reports and byte counts go; its history is where a resumed run goes on
    clock : says in which order jobs end
    timeouts : how long to wait for an agent
    rounds : of the network; the run is agents x rounds of single agents long
    everybody : agents learn of all others, as where updates are forwarded; else of their neighbours only
    """

    def __init__(
        self,
        topology: Topology,
        roster: Roster,
        recorder: Recorder,
        *,
        clock: Clock,
        timeouts: AdaptiveTimeouts,
        rounds: int,
        everybody: bool = True,
    ) -> None:
        self.roster = roster
        self.recorder = recorder
        self.router = MailRouter(topology, roster, recorder, everybody=everybody)
        self.clock = clock
        self.timeouts = timeouts
        self.total = rounds * roster.agents
        times = recorder.history.own_rounds()
        self.booked = {agent: max(rounds) for agent, rounds in times.items()}  # the newest of each
        # Rounds of single agents that are done: those recorded, whatever numbers the agents gave them.
        self._done = sum(map(len, times.values()))
        self._round = self._done // roster.agents  # the network's, finished
        self._due: dict[int, set[int]] = {}  # network round -> agents still to be evaluated for it
        self._outboxes: dict[int, dict[str, bytes]] = {}  # agent -> what its answer, not yet taken, brings
        self._known: set[int] = set()  # agents whose kept mail was posted, since this server began

    def start(
        self,
        grid: Grid,
        initial_arrays: ArrayRecord,
        num_rounds: int = 3,
        timeout: float = 3600,
        train_config: ConfigRecord | None = None,
        evaluate_config: ConfigRecord | None = None,
        evaluate_fn: object = None,
    ) -> Result:
        """The loop, in place of Flower's. `timeout`: seconds without a sign of life after which the run fails.

        Raises
        ------
        SilenceError
            No agent answers any more.
        """
        log(INFO, "Starting %s strategy:", type(self).__name__)
        self.router.summary()
        config = train_config or ConfigRecord()
        dispatcher = Dispatcher(
            grid, self.roster, self.recorder, self.timeouts, config, self.router.introduction
        )
        self._go_on(dispatcher)
        pause = PAUSE_SECONDS
        while True:
            self._begin_jobs(dispatcher)
            if self._done >= self.total and not set(dispatcher.jobs) - dispatcher.away():
                break
            came = dispatcher.turn()
            self._excuse(dispatcher.away())
            self._weigh(dispatcher)
            ending = self.clock.ready(dispatcher.answers)
            for agent in ending:
                self._take(agent, dispatcher.take(agent))
            if came or ending:
                pause = PAUSE_SECONDS
                continue
            self._check_life(dispatcher, timeout)
            time.sleep(pause)
            pause = min(MOST_PAUSE, 1.5 * pause)
        self._say_pace()
        return Result()

    def _go_on(self, dispatcher: Dispatcher) -> None:
        """Take up a stopped run: mail as the homes kept it, and each agent's next job, in the order in which they were.

        With the virtual clock, a job begins when the agent's last one ended, with the mail of that instant: the numbers
        are those of a run that was never stopped. Mail that had been delivered is refused by who has had it.
        """
        times = self.recorder.history.own_rounds()
        happened: list[
            tuple[float, bool, int, int]
        ] = []  # when, begins a job (after all posting), agent, own round
        for member in self.roster.members():
            self._known.add(member.agent)
            ended = times.get(member.agent, {})
            kept = [own for own in member.outbox if own <= self.booked.get(member.agent, 0)]
            happened += [(ended.get(own, 0.0), False, member.agent, own) for own in kept]
            happened.append((max(ended.values(), default=0.0), True, member.agent, 0))
        evaluated = [round for round in range(1, self._round + 1) if self.recorder.evaluates(round)]
        if evaluated:
            booked = {e.agent for e in self.recorder.history.events("evaluate") if e.round == evaluated[-1]}
            missing = {member.agent for member in self.roster.members()} - booked
            if missing:
                self._due[evaluated[-1]] = missing
        members = {member.agent: member for member in self.roster.members()}
        for when, begins, agent, own in sorted(happened):
            if begins:
                # An evaluation that is due waits for this job: after it, mail would be that of another instant.
                self._begin_round(dispatcher, members[agent], at=when, times=times)
            else:
                self.router.post(agent, own, members[agent].outbox[own])

    def _begin_jobs(self, dispatcher: Dispatcher) -> None:
        """A job for every idle agent, in the order of agents."""
        left = self._left(dispatcher)
        for member in self.roster.members():
            if member.agent not in self._known:
                self._join(member)
            if member.agent not in dispatcher.jobs and (left or self._due):
                self._begin_job(dispatcher, member)

    def _join(self, member: Member) -> None:
        log(INFO, "agent %d joins, %d rounds behind it", member.agent, member.round)
        self._known.add(member.agent)
        for own in sorted(member.outbox):
            if own <= self.booked.get(member.agent, 0):
                self.router.post(member.agent, own, member.outbox[own])

    def _begin_job(self, dispatcher: Dispatcher, member: Member) -> None:
        """The evaluation that is due, or the agent's next round."""
        agent = member.agent
        due = tuple(sorted(round for round, agents in self._due.items() if agent in agents))
        if not due:
            self._begin_round(dispatcher, member)
            return
        mail = self.router.mail(agent)
        dispatcher.begin(agent, Job(MessageType.EVALUATE, due[-1], mail, due))
        self.clock.begin(agent, 0, received=sum(map(len, mail.values())))

    def _begin_round(
        self, dispatcher: Dispatcher, member: Member, at: float | None = None, times: Times | None = None
    ) -> None:
        """The agent's next round, if the run has rounds left. In a resumed run: when, and what ended when."""
        if not self._left(dispatcher):
            return
        agent = member.agent
        # A home ahead of the history holds answers that were lost or not yet requested: the oldest one kept is next.
        booked = self.booked.get(agent, 0)
        kept = [own for own in member.outbox if own > booked]
        number = min(kept, default=max(booked + 1, member.round))
        mail = self.router.mail(agent)
        dispatcher.begin(agent, Job(MessageType.TRAIN, number, mail))
        self.clock.begin(
            agent, number, at, sum(map(len, (mail if times is None else _new(mail, agent, times)).values()))
        )

    def _weigh(self, dispatcher: Dispatcher) -> None:
        """Tell the clock what new answers bring: its way to the neighbours is part of the job."""
        for agent, answer in dispatcher.answers.items():
            if answer.job.kind == MessageType.TRAIN and agent not in self._outboxes:
                own = answer.job.number
                self._outboxes[agent] = self.router.outbox(own, agent, answer.message)
                self.clock.weigh(agent, self.router.posted_bytes(agent, own, self._outboxes[agent]))

    def _left(self, dispatcher: Dispatcher) -> int:
        """Rounds neither finished nor begun. A round that an absent agent began counts as not begun."""
        away = dispatcher.away()
        begun = [job for agent, job in dispatcher.jobs.items() if agent not in away]
        return max(0, self.total - self._done - sum(job.kind == MessageType.TRAIN for job in begun))

    def _take(self, agent: int, answer: Answer) -> None:
        """A job has ended: record it, and post its envelopes to the neighbours."""
        job = answer.job
        self.router.confirm(agent, job.mail)
        if job.kind == MessageType.EVALUATE:
            self._evaluated(agent, answer)
            return
        own = job.number
        if own > self.booked.get(agent, 0):
            self.booked[agent] = own
            self._done += 1
            network = -(-min(self._done, self.total) // self.roster.agents)
            self.recorder.book("train", network, agent, answer.report, own, self.clock.now)
        self.router.post(agent, own, self._outboxes.pop(agent))
        while self._round < min(self._done, self.total) // self.roster.agents:
            self._round += 1
            self._round_finished(self._round)

    def _evaluated(self, agent: int, answer: Answer) -> None:
        own = self.booked.get(agent, 0)
        for round in answer.job.rounds:
            self.recorder.book("evaluate", round, agent, answer.report, own, self.clock.now)
            self._excused(agent, round)

    def _round_finished(self, round: int) -> None:
        self.recorder.book_bytes(round, more=True)
        if self.recorder.evaluates(round):
            self._due[round] = {member.agent for member in self.roster.members()}
        else:
            self.recorder.log_figures(round)

    def _excuse(self, away: set[int]) -> None:
        """Stop waiting for absent agents, in the clock and in the figures of evaluations."""
        for agent in away:
            self.clock.set_aside(agent)
            for round in [round for round, agents in self._due.items() if agent in agents]:
                self._excused(agent, round)

    def _excused(self, agent: int, round: int) -> None:
        """The agent's evaluation is no longer waited for; the last one's completes the round's figures."""
        agents = self._due.get(round, set())
        agents.discard(agent)
        if round in self._due and not agents:
            del self._due[round]
            self.recorder.book_bytes(round, more=True)
            self.recorder.log_figures(round)

    def _check_life(self, dispatcher: Dispatcher, timeout: float) -> None:
        if dispatcher.hopeless():
            raise SilenceError("every agent fails again and again; what they say is above")
        silent = time.monotonic() - dispatcher.last_sign
        if silent > timeout and set(dispatcher.jobs) <= dispatcher.away():
            raise SilenceError(
                f"no agent has answered for {silent:.0f} s, limits.round_timeout is {timeout:g}"
            )

    def _say_pace(self) -> None:
        own = ", ".join(f"agent {agent}: {rounds}" for agent, rounds in sorted(self.booked.items()))
        log(INFO, "symphony: rounds done by %s", own)
        if isinstance(self.clock, VirtualClock):
            behind = self.clock.behind_barrier(self.roster.agents, self._round)
            log(
                INFO,
                "symphony: %.0f virtual seconds; behind a barrier the computing of as many rounds takes %.0f",
                self.clock.now,
                behind,
            )


def _new(mail: Mapping[str, bytes], agent: int, times: Times) -> dict[str, bytes]:
    """Of the mail put before an agent again, what it has not had: that was posted after its last round began."""
    ended = sorted(times.get(agent, {}).values())
    began = ended[-2] if len(ended) > 1 else 0.0
    found = {}
    for label, data in mail.items():
        sender, round = map(int, label.split("/")[:2])
        if times.get(sender, {}).get(round, 0.0) > began:
            found[label] = data
    return found
