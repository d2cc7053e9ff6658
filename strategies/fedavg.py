"""Federated averaging (McMahan et al., arXiv 1602.05629): Flower's own FedAvg on the same adapters, the baseline.

The algorithm is unchanged. Two things are added: messages go to the recipe's agents only, and replies and bytes are
recorded as in every other strategy. Bytes sent and received are those of training; the copies of the global adapter
that Flower sends out for evaluation are counted under `bytes/flower` only.
"""

from __future__ import annotations

from collections.abc import Iterable

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg

from clients.protocol.messages import ARRAYS, array_bytes
from strategies.recorder import Recorder
from strategies.roster import Roster


class RecordedFedAvg(FedAvg):
    """Flower's FedAvg over all agents of the roster, with its traffic and reports recorded."""

    def __init__(self, roster: Roster, recorder: Recorder) -> None:
        agents = roster.agents
        super().__init__(min_train_nodes=agents, min_evaluate_nodes=agents, min_available_nodes=agents)
        self.roster = roster
        self.recorder = recorder

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        messages = self._to_agents(super().configure_train(server_round, arrays, config, grid))
        for agent, _ in messages:
            self.recorder.received(agent, array_bytes(arrays))
        return [message for _, message in messages]

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        booked = []
        for reply in replies:
            agent = self.roster.agent_of(reply.metadata.src_node_id)
            if agent is not None and self.recorder.report("train", server_round, agent, reply):
                self.recorder.sent(agent, array_bytes(reply.content.array_records[ARRAYS]))
                booked.append((agent, reply))
        # Floating-point sums depend on the order of terms; the order of arrival must not.
        ordered = [reply for _, reply in sorted(booked, key=lambda pair: pair[0])]
        aggregated = super().aggregate_train(server_round, ordered)
        if not self.recorder.evaluates(server_round):
            self.recorder.round_finished(server_round)
        return aggregated

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        if not self.recorder.evaluates(server_round):
            return []
        messages = self._to_agents(super().configure_evaluate(server_round, arrays, config, grid))
        return [message for _, message in messages]

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        replies = list(replies)
        for reply in replies:
            agent = self.roster.agent_of(reply.metadata.src_node_id)
            if agent is not None:
                self.recorder.report("evaluate", server_round, agent, reply)
        aggregated = super().aggregate_evaluate(server_round, replies)
        if self.recorder.evaluates(server_round):
            self.recorder.round_finished(server_round)
        return aggregated

    def _to_agents(self, messages: Iterable[Message]) -> list[tuple[int, Message]]:
        """The messages to members of the roster: Flower may know spare nodes that take no part."""
        found = [(self.roster.agent_of(message.metadata.dst_node_id), message) for message in messages]
        members = [(agent, message) for agent, message in found if agent is not None]
        for agent, message in members:
            self.recorder.message(agent, message)
        return members
