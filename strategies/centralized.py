"""One trainer, rollout workers: weights go one way, rollouts the other (the paper, sections 6.2 and 6.3).

One round of Flower's is one step of reinforcement learning. With `lag` 0 the workers generate the step's rollouts
first, with the weights of the step before, then the trainer trains. Otherwise both work at once: while the trainer is
at step t, the workers generate for step t + 1. Their weights are then one step old, or older as the recipe says.

The server is the mailbox of gossip: it opens no mail and holds no model. Weights go down a tree: each worker forwards
them to its children. The children of an absent worker are served by its parent. The children of a worker that does not
forward are served from the trainer's recent weights.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from logging import INFO

from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, MetricRecord, RecordDict
from flwr.common import log
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy

from clients.protocol.messages import (
    CONFIG,
    MAIL,
    OUTBOX,
    ROUND,
    MessageError,
    pack_envelopes,
    unpack_envelopes,
)
from strategies.mailbox import Mailbox
from strategies.recorder import Recorder
from strategies.roster import POLL_SECONDS, Member, Roster, RosterError
from symphony_fl.build.centralized import TRAINER, children, depth, usual_age


class TrainerError(RuntimeError):
    """The trainer did not do its step; the run can be resumed."""


class Centralized(Strategy):
    """Carry weights and rollouts, step by step.

    Parameters
    ----------
    roster : the agents and the nodes they are reached by, gathered
    recorder : where reports and byte counts go; knows which steps are evaluated
    rounds : steps of the run
    finished : steps the trainer has done already, as after a resume
    lag : 0, or steps between the weights that generate and those in training, at least
    fanout : workers that each agent hands weights to; 0: the trainer to all
    kept : newest steps of the trainer's weights from which a worker is served that gets none from who should hand them
        on; 0: it is not
    timeout : seconds a step waits for a reply, and for the trainer to be there
    """

    def __init__(
        self,
        roster: Roster,
        recorder: Recorder,
        *,
        rounds: int,
        finished: int,
        lag: int,
        fanout: int,
        kept: int,
        timeout: float,
    ) -> None:
        self.roster = roster
        self.recorder = recorder
        self.rounds = rounds
        self.finished = finished
        self.lag = lag
        self.fanout = fanout
        self.timeout = timeout
        self.mailbox = Mailbox()
        # Steps and what the trainer gave its children with each.
        self._weights: deque[tuple[int, Mapping[str, bytes]]] = deque(maxlen=kept)
        self._served: dict[int, int] = {}  # worker -> step after which its weights count as served directly
        self._delivered: dict[int, list[str]] = {}
        self._here: list[int] = [member.agent for member in roster.members()]
        for member in roster.members():  # mail on its way when the last run stopped
            for step, outbox in sorted(member.outbox.items()):
                self._post(member.agent, step, outbox)

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """The step for the trainer, with its rollouts; the next one for the workers, with what came of the weights."""
        step = self.finished + server_round
        trainer, workers = self._gather(grid)
        if server_round == 1 or not self.lag:
            self._generate(grid, step, workers, config)
        messages = [self._message(MessageType.TRAIN, step, trainer, config)]
        if self.lag and step < self.rounds:
            messages += [self._message(MessageType.TRAIN, step + 1, worker, config) for worker in workers]
        return messages

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Put rollouts before the trainer and weights before the workers.

        Raises
        ------
        TrainerError
            The trainer failed: without it nothing can go on.
        """
        step = self.finished + server_round
        done = self._take(step, step + 1, replies)
        if TRAINER not in done:
            raise TrainerError(f"the trainer did not do step {step}; see the log above")
        if not self.recorder.evaluates(step):
            self.recorder.round_finished(step)
        return None, None

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """On evaluation steps, ask the trainer for held-out accuracy."""
        step = self.finished + server_round
        if not self.recorder.evaluates(step):
            return []
        content = RecordDict({CONFIG: ConfigRecord({**config, ROUND: step, **self.roster.introduction()})})
        message = Message(content, self.roster.members()[TRAINER].node, MessageType.EVALUATE)
        self.recorder.message(TRAINER, message)
        return [message]

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """Book the accuracies."""
        step = self.finished + server_round
        for reply in replies:
            if self.roster.agent_of(reply.metadata.src_node_id) == TRAINER:
                self.recorder.report("evaluate", step, TRAINER, reply)
        if self.recorder.evaluates(step):
            self.recorder.round_finished(step)
        return None

    def summary(self) -> None:
        """Who hands weights to whom, and how old they are when they are used."""
        agents = self.roster.agents
        log(
            INFO,
            "\t├──> a trainer and %d rollout workers, weights at least %d steps old",
            agents - 1,
            self.lag,
        )
        log(INFO, "\t└──> weights reach the furthest worker in %d step(s)", depth(agents, self.fanout))

    def _gather(self, grid: Grid) -> tuple[Member, Sequence[Member]]:
        """The trainer, once it is there, and the workers that are.

        Raises
        ------
        RosterError
            The trainer has not been there for `timeout` seconds. The run can be resumed.
        """
        deadline = time.monotonic() + self.timeout
        while True:
            self.roster.refresh(grid)
            here = self.roster.present()
            if here and here[0].agent == TRAINER:
                break
            if time.monotonic() > deadline:
                raise RosterError(f"the trainer has not been connected for {self.timeout:.0f} s")
            time.sleep(POLL_SECONDS)
        now = [member.agent for member in here]
        for agent in set(self._here) - set(now):  # mail it would have forwarded
            self.mailbox.copy(agent, children(agent, self.roster.agents, self.fanout, now))
        self._here = now
        return here[0], here[1:]

    def _generate(self, grid: Grid, step: int, workers: Sequence[Member], config: ConfigRecord) -> None:
        """Have the workers generate a step's rollouts before the trainer is asked. A worker that already did, as after
        a resume, answers from its home."""
        messages = [self._message(MessageType.TRAIN, step, worker, config) for worker in workers]
        self._take(step, step, grid.send_and_receive(messages, timeout=self.timeout))

    def _message(self, kind: str, step: int, member: Member, config: ConfigRecord) -> Message:
        mail = self.mailbox.mail(member.agent)
        self._delivered[member.agent] = list(mail)
        head = ConfigRecord({**config, ROUND: step, **self.roster.introduction()})
        message = Message(RecordDict({CONFIG: head, MAIL: pack_envelopes(mail)}), member.node, kind)
        self.recorder.message(member.agent, message)
        return message

    def _take(self, step: int, generated: int, replies: Iterable[Message]) -> set[int]:
        """Record replies and post their mail, by agent number: the order of arrival must not matter.

        Returns the agents whose replies arrived whole. `generated` is the step the workers were asked for.
        """
        found = [(self.roster.agent_of(reply.metadata.src_node_id), reply) for reply in replies]
        done = set()
        for agent, reply in sorted(((a, r) for a, r in found if a is not None), key=lambda pair: pair[0]):
            asked = step if agent == TRAINER else generated
            report = self.recorder.read("train", asked, agent, reply)
            if report is None:
                self.roster.greet_again(agent)
                continue
            self.recorder.book("train", asked, agent, report)
            done.add(agent)
            if agent != TRAINER:
                self._serve(agent, asked, int(report.metrics.get("version", 0.0)))
            delivered = self.mailbox.confirm(agent, self._delivered.pop(agent, []))
            for sender, size in delivered.items():
                self.recorder.edge(sender, agent, size)
            try:
                self._post(agent, asked, unpack_envelopes(reply.content, OUTBOX))
            except MessageError as error:
                self.recorder.refused(step, agent, error)
        return done

    def _serve(self, worker: int, step: int, version: int) -> None:
        """Send a worker its missing weights directly if its own are older than the depth of the tree explains: a
        worker above it may withhold them. Its claimed version needs no check: it gets only what it is due anyway."""
        usual = usual_age(self.roster.agents, self.fanout, self.lag)
        if step - 1 - version <= usual + 1 or step <= self._served.get(worker, 0):
            return
        missing = [(made, weights) for made, weights in self._weights if made > version]
        if missing:
            log(
                INFO,
                "agent %d generates with weights %d steps old; served directly",
                worker,
                step - 1 - version,
            )
            self._served[worker] = step + usual + 1  # until then its reports are of before
        for made, weights in missing:
            self.mailbox.post(TRAINER, made, [worker], weights)

    def _post(self, agent: int, step: int, outbox: Mapping[str, bytes]) -> None:
        """Post rollouts, which carry an address, to the trainer, and weights to the sender's children in the tree."""
        rollouts = {label: data for label, data in outbox.items() if ">" in label}
        weights = {label: data for label, data in outbox.items() if ">" not in label}
        if agent != TRAINER:
            self.mailbox.post(agent, step, [TRAINER], rollouts)
        else:
            self._weights.append((step, weights))
        below = children(agent, self.roster.agents, self.fanout, self._here)
        self.mailbox.post(agent, step, below, weights)
