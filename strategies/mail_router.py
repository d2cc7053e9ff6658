"""Routes mail between neighbours, for strategies that gossip: replies into the mailbox, mail into messages.

A reply's envelopes are posted to the sender's neighbours in the graph of its round. An agent's next message carries its
mail, its neighbours' addresses for direct connections, and the key rotation statements. The mail is dropped once a
reply to that message has arrived.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from logging import INFO

from flwr.app import ConfigRecord, Message, RecordDict
from flwr.common import log

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
from strategies.mailbox import Mailbox, posted_bytes
from strategies.recorder import Recorder
from strategies.roster import Member, Roster
from symphony_fl.exchange.topology import Topology


class MailRouter:
    """Posts what agents share and builds the messages that deliver it.

    Parameters
    ----------
    topology : the graph of each round, or None for agents that learn alone
    roster : the agents, their nodes, addresses and rotations
    recorder : where messages, delivered bytes and refusals are counted
    everybody : agents learn of all others, as where updates are forwarded; else of their neighbours only, since
        telling all of all grows with the square of their number
    finished : rounds of all agents that were posted before, as after a resume
    """

    def __init__(
        self,
        topology: Topology | None,
        roster: Roster,
        recorder: Recorder,
        *,
        everybody: bool = True,
        finished: int = 0,
    ) -> None:
        self.topology = topology
        self.roster = roster
        self.recorder = recorder
        self.everybody = everybody or topology is None
        self.mailbox = Mailbox()
        self._delivered: dict[int, list[str]] = {}  # agent -> labels that its unanswered message brought
        self._posted: dict[int, int] = dict.fromkeys(range(roster.agents), finished)  # agent -> newest round

    def summary(self) -> None:
        """The graph and how fast it mixes."""
        if self.topology is None:
            log(INFO, "\t└──> no edges: %d agents learn alone", self.roster.agents)
            return
        log(INFO, "\t├──> %s over %d agents", self.topology.name, self.roster.agents)
        log(INFO, "\t├──> spectral gap: %.4f", self.topology.spectral_gap())
        log(INFO, "\t└──> rounds to shrink disagreement 1000x: %.0f", self.topology.rounds_to_agreement())

    def mail(self, agent: int) -> Mapping[str, bytes]:
        """What waits for the agent: label -> envelope, oldest first."""
        return self.mailbox.mail(agent)

    def messages(self, kind: str, number: int, config: ConfigRecord) -> list[Message]:
        """A message with its mail to every agent that is there."""
        everybody = self.roster.introduction() if self.everybody else None
        return [
            self._message(kind, member, number, config, everybody or self.introduction(member.agent, number))
            for member in self.roster.present()
        ]

    def introduction(self, agent: int, number: int) -> dict[str, str | bytes]:
        """Who an agent may hear from and writes to about this round: keys, addresses and rotations."""
        if self.topology is None or self.everybody:
            return self.roster.introduction()
        rounds = (number - 1, number, number + 1)
        return self.roster.introduction({n for r in rounds for n in self.topology.neighbours(agent, r)})

    def outbox(self, number: int, agent: int, reply: Message) -> dict[str, bytes]:
        """The envelopes of a reply, and record the agent's addresses. An unreadable outbox is refused, since it comes
        from the network."""
        try:
            self.roster.moved(agent, unpack_addresses(reply.content))
            return unpack_envelopes(reply.content, OUTBOX)
        except MessageError as error:
            self.recorder.refused(number, agent, error)
            return {}

    def post(self, agent: int, number: int, outbox: Mapping[str, bytes]) -> None:
        """Put what an agent shares of a round of its before its neighbours."""
        self._posted[agent] = max(number, self._posted[agent])
        if self.topology is not None and outbox:
            self.mailbox.post(agent, number, self.topology.neighbours(agent, number), outbox)

    def posted_bytes(self, agent: int, number: int, outbox: Mapping[str, bytes]) -> int:
        """Bytes of all the copies that `post` makes."""
        return 0 if self.topology is None else posted_bytes(self.topology.neighbours(agent, number), outbox)

    def catch_up(self, member: Member, number: int) -> None:
        """Post what an agent, greeted again, still holds of rounds before `number` whose replies were lost with its
        node."""
        for round in sorted(member.outbox):
            if self._posted[member.agent] < round < number:
                log(INFO, "agent %d is back with its envelopes of round %d", member.agent, round)
                self.post(member.agent, round, member.outbox[round])

    def answered(self, agent: int) -> None:
        """The agent's message has a reply: what it brought is delivered."""
        self.confirm(agent, self._delivered.pop(agent, []))

    def unanswered(self) -> list[int]:
        """Agents whose message has no reply."""
        return list(self._delivered)

    def confirm(self, agent: int, labels: Iterable[str]) -> None:
        """The agent has these: forget them, and count their bytes by edge."""
        for sender, size in self.mailbox.confirm(agent, labels).items():
            self.recorder.edge(sender, agent, size)

    def _message(
        self, kind: str, member: Member, number: int, config: ConfigRecord, told: Mapping[str, str | bytes]
    ) -> Message:
        mail = self.mailbox.mail(member.agent)
        self._delivered[member.agent] = list(mail)
        content = RecordDict(
            {CONFIG: ConfigRecord({**config, ROUND: number, **told}), MAIL: pack_envelopes(mail)}
        )
        message = Message(content, member.node, kind)
        self.recorder.message(member.agent, message)
        return message
