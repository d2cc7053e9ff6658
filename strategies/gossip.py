"""Synchronous gossip: Symphony's exchange between neighbours (the paper, section 5.1, eq. 3 and 4).

Each round every agent improves its own adapter, and what it sends reaches its neighbours on the graph
G = (A, E) with their next message (`mail_router.py`). The server is a mailbox: it opens no envelope, averages nothing
and holds no model. Flower's own round loop (`Strategy.start`) drives it; one round is one train message, and on
evaluation rounds one evaluate message, per agent.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from logging import INFO

from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, MetricRecord
from flwr.common import log
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy

from strategies.mail_router import MailRouter
from strategies.recorder import Recorder
from strategies.roster import POLL_SECONDS, Roster, RosterError
from symphony_fl.exchange.topology import Topology


class Gossip(Strategy):
    """Carry mail between neighbours, round by round.

    Parameters
    ----------
    topology : the graph of each round, or None for agents that learn alone
    roster : the agents and the nodes they are reached by, gathered
    recorder : where reports and byte counts go; knows which rounds are evaluated
    finished : rounds all agents have already finished, as after a resume; round numbers go on from there
    everybody : agents learn of all others, as where updates are forwarded; else of their neighbours only
    patience : seconds a round waits for agents of the last round that are away; waited in full once per absence at most
    silence : seconds to wait while no agent is connected, as while a SuperLink restarts
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
        self.roster = roster
        self.recorder = recorder
        self.finished = finished
        self.patience = patience
        self.silence = silence
        self.router = MailRouter(topology, roster, recorder, everybody=everybody, finished=finished)
        self._took_part = {member.agent for member in roster.members()}  # in the last round
        for member in roster.members():  # mail on its way when the last run stopped
            self.router.post(member.agent, finished, member.outbox.get(finished, {}))

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """A message to every connected agent, with its mail."""
        number = self.finished + server_round
        self._gather(grid)
        for member in self.roster.members():
            self.router.catch_up(member, number)
        return self.router.messages(MessageType.TRAIN, number, config)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Put every agent's envelopes before its neighbours. Nothing is averaged."""
        number = self.finished + server_round
        for agent, reply in self._answers(replies):
            if self._account("train", number, agent, reply):
                self.router.post(agent, number, self.router.outbox(number, agent, reply))
        for agent in self.router.unanswered():
            # The reply is lost, though the round may be done: the agent is asked again who it is.
            self.roster.greet_again(agent)
        if not self.recorder.evaluates(number):
            self.recorder.round_finished(number)
        return None, None

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """On evaluation rounds, deliver the round's mail and ask for held-out accuracy."""
        number = self.finished + server_round
        return (
            self.router.messages(MessageType.EVALUATE, number, config)
            if self.recorder.evaluates(number)
            else []
        )

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
        self.router.summary()

    def _gather(self, grid: Grid) -> None:
        """See which agents are connected, and wait for those that have just left.

        A round never runs without participants: empty rounds would use up the run at once.

        Raises
        ------
        RosterError
            No agent has been connected for `silence` seconds. The run can be resumed.
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
        self.router.answered(agent)
        return True
