"""Synchronous gossip: Symphony's exchange between neighbours (the paper, section 5.1, eq. 3 and 4).

Each round every agent improves its own adapter, and what it sends reaches its neighbours on the graph
G = (A, E) with their next message. The server is a mailbox: it opens no envelope, averages nothing and holds no
model. Flower's own round loop (`Strategy.start`) drives it; one round is one train message, and on evaluation
rounds one evaluate message, per agent.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
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
    unpack_addresses,
    unpack_envelopes,
)
from strategies.mailbox import Mailbox
from strategies.recorder import Recorder
from strategies.roster import POLL_SECONDS, Member, Roster, RosterError
from symphony_fl.exchange.topology import Topology


class Gossip(Strategy):
    """Carry mail between neighbours, round by round.

    Parameters
    ----------
    topology : the graph of each round, or None for agents that learn alone
    roster : the agents and the nodes they are reached by, gathered
    recorder : where reports and byte counts go; knows which rounds are evaluated
    finished : rounds all agents have already finished, as after a resume; round numbers go on from there
    everybody : agents hear of all others, as where updates are passed on; else of their neighbours only, since what
        all would be told of all grows with the square of their number
    patience : seconds a round waits for agents of the last one that are away; in vain at most once for each absence
    silence : seconds to wait when nobody at all is there, as while a SuperLink is started again
    """

    def __init__(
        self,
        topology: Topology | None,
        roster: Roster,
        recorder: Recorder,
        *,
        finished: int,
        everybody: bool = True,
        patience: float = 60.0,
        silence: float = 3600.0,
    ) -> None:
        self.topology = topology
        self.roster = roster
        self.recorder = recorder
        self.finished = finished
        self.everybody = everybody
        self.patience = patience
        self.silence = silence
        self.mailbox = Mailbox()
        self._took_part = {member.agent for member in roster.members()}  # in the last round
        self._delivered: dict[int, list[str]] = {}
        self._posted: dict[int, int] = dict.fromkeys(range(roster.agents), finished)  # agent -> newest round
        for member in roster.members():  # mail on its way when the last run stopped
            self._post(member.agent, finished, member.outbox.get(finished, {}))

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """A message to every connected agent, with its mail."""
        number = self.finished + server_round
        self._gather(grid)
        for member in self.roster.members():
            self._catch_up(member, number)
        return self._messages(MessageType.TRAIN, number, config)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Put every agent's envelopes before its neighbours. Nothing is averaged."""
        number = self.finished + server_round
        for agent, reply in self._answers(replies):
            if self._account("train", number, agent, reply):
                self._post(agent, number, self._outbox(number, agent, reply))
        for (
            agent
        ) in self._delivered:  # its reply is lost, though its round may be done: it is asked again who it is
            self.roster.greet_again(agent)
        if not self.recorder.evaluates(number):
            self.recorder.round_finished(number)
        return None, None

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """On evaluation rounds, deliver the round's mail and ask for held-out accuracy."""
        number = self.finished + server_round
        return self._messages(MessageType.EVALUATE, number, config) if self.recorder.evaluates(number) else []

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """Book the accuracies."""
        number = self.finished + server_round
        for agent, reply in self._answers(replies):
            self._account("evaluate", number, agent, reply)
        if self.recorder.evaluates(number):
            self.recorder.round_finished(number)
        return None

    def summary(self) -> None:
        """The graph and how fast it mixes."""
        if self.topology is None:
            log(INFO, "\t└──> no edges: %d agents learn alone", self.roster.agents)
            return
        log(INFO, "\t├──> %s over %d agents", self.topology.name, self.roster.agents)
        log(INFO, "\t├──> spectral gap: %.4f", self.topology.spectral_gap())
        log(INFO, "\t└──> rounds to shrink disagreement 1000x: %.0f", self.topology.rounds_to_agreement())

    def _gather(self, grid: Grid) -> None:
        """Notice who is there, and wait for who has just gone: rounds that nobody does would pass in no time.

        Raises
        ------
        RosterError
            Nobody has been there for `silence` seconds. The run can be resumed.
        """
        began = time.monotonic()
        while True:
            self.roster.refresh(grid)
            here = {member.agent for member in self.roster.present()} - self.roster.awaited()
            waited = time.monotonic() - began
            if here and (self._took_part <= here or waited >= self.patience):
                break
            if waited >= self.silence:
                raise RosterError(f"no agent has been connected for {waited:.0f} s")
            time.sleep(POLL_SECONDS)
        if self._took_part - here:
            log(INFO, "going on without agents %s", sorted(self._took_part - here))
        self._took_part = here

    def _messages(self, kind: str, number: int, config: ConfigRecord) -> list[Message]:
        everybody = self.roster.introduction() if self._tells_all else None
        return [
            self._message(
                kind,
                member,
                ConfigRecord(
                    {**config, ROUND: number, **(everybody or self._introduction(member.agent, number))}
                ),
            )
            for member in self.roster.present()
        ]

    @property
    def _tells_all(self) -> bool:
        return self.everybody or self.topology is None

    def _introduction(self, agent: int, number: int) -> dict[str, str | bytes]:
        """Who an agent may hear from and writes to about this round."""
        if self.topology is None or self._tells_all:
            return self.roster.introduction()
        rounds = (number - 1, number, number + 1)
        return self.roster.introduction({n for r in rounds for n in self.topology.neighbours(agent, r)})

    def _message(self, kind: str, member: Member, config: ConfigRecord) -> Message:
        mail = self.mailbox.mail(member.agent)
        self._delivered[member.agent] = list(mail)
        message = Message(RecordDict({CONFIG: config, MAIL: pack_envelopes(mail)}), member.node, kind)
        self.recorder.message(member.agent, message)
        return message

    def _answers(self, replies: Iterable[Message]) -> list[tuple[int, Message]]:
        """Replies of members, by agent number: the order of arrival must not matter."""
        found = [(self.roster.agent_of(reply.metadata.src_node_id), reply) for reply in replies]
        return sorted(
            ((agent, reply) for agent, reply in found if agent is not None), key=lambda pair: pair[0]
        )

    def _account(self, kind: str, number: int, agent: int, reply: Message) -> bool:
        """Book a reply; one that arrived whole also confirms the mail its message carried."""
        if not self.recorder.report(kind, number, agent, reply):
            return False
        for sender, size in self.mailbox.confirm(agent, self._delivered.pop(agent, [])).items():
            self.recorder.edge(sender, agent, size)
        return True

    def _outbox(self, number: int, agent: int, reply: Message) -> dict[str, bytes]:
        """What a reply asks to be handed over: from the network, so refused where it cannot be read. Takes note of
        where the agent can be reached directly."""
        try:
            self.roster.moved(agent, unpack_addresses(reply.content))
            return unpack_envelopes(reply.content, OUTBOX)
        except MessageError as error:
            self.recorder.refused(number, agent, error)
            return {}

    def _catch_up(self, member: Member, number: int) -> None:
        """Post what an agent, greeted again, still holds of rounds whose replies were lost with its node."""
        for round in sorted(member.outbox):
            if self._posted[member.agent] < round < number:
                log(INFO, "agent %d is back with its envelopes of round %d", member.agent, round)
                self._post(member.agent, round, member.outbox[round])

    def _post(self, agent: int, number: int, outbox: Mapping[str, bytes]) -> None:
        self._posted[agent] = max(number, self._posted[agent])
        if self.topology is not None and outbox:
            self.mailbox.post(agent, number, self.topology.neighbours(agent, number), outbox)
