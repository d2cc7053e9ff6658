"""A reply that was lost with its node: the agent is greeted again, and its neighbours get what they missed, once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from at_once import AtOnce
from empty_store import empty_store
from flwr.app import ArrayRecord, ConfigRecord, Error, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from clients.protocol.messages import (
    CONFIG,
    MAIL,
    NONCE,
    OUTBOX,
    PROOF,
    config_value,
    pack_envelopes,
    pack_report,
    unpack_envelopes,
)
from strategies import gossip as gossip_module
from strategies.gossip import Gossip
from strategies.recorder import Recorder
from strategies.roster import HELLO, Roster, RosterError
from symphony_fl.config.recipe import load_recipe
from symphony_fl.exchange.topology import build_topology
from symphony_fl.identity.did_key import did_from_public_key, generate_private_key, public_key_of
from symphony_fl.identity.proof_of_possession import prove
from symphony_fl.metrics.history import History
from symphony_fl.tracking.tracker import Tracker

NODES = {11: 0, 12: 1}  # node id -> agent


class Agents(AtOnce):
    """Two agents whose envelopes say whose and of which round they are; the grid they are reached by."""

    def __init__(self) -> None:
        super().__init__()
        self.keys = [generate_private_key() for _ in NODES]
        self.dids = [did_from_public_key(public_key_of(key)) for key in self.keys]
        self.outbox: dict[int, dict[str, bytes]] = {0: {}, 1: {}}
        self.greeted: list[int] = []

    def get_node_ids(self) -> list[int]:
        return list(NODES)

    def answer(self, message: Message) -> Message:
        assert message.metadata.message_type == HELLO
        agent = NODES[message.metadata.dst_node_id]
        self.greeted.append(agent)
        proof = prove(self.keys[agent], "", config_value(message.content, NONCE, bytes), agent)
        who: dict[str, Any] = {
            "agent": agent, "did": self.dids[agent], "round": 0, "base": "ab", PROOF: proof,
        }  # fmt: skip
        return Message(
            RecordDict({CONFIG: ConfigRecord(who), OUTBOX: pack_envelopes(self.outbox[agent])}),
            reply_to=message,
        )

    def train(self, message: Message, number: int) -> Message:
        """The round is done and kept, whatever becomes of the reply."""
        agent = NODES[message.metadata.dst_node_id]
        envelope = f"{agent} in {number}".encode()
        self.outbox[agent][f"{number}/0"] = envelope
        content = RecordDict(pack_report({}, {"metrics": {}}))
        content[OUTBOX] = pack_envelopes({"0": envelope})
        return Message(content, reply_to=message)


@pytest.fixture
def network(tmp_path: Path) -> Iterator[tuple[Agents, Roster, Recorder]]:
    """Two agents, greeted, and books."""
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 1, 1
    recipe = load_recipe("smoke", ("agents=2", "tracking.uri=" + empty_store(tmp_path)))
    tracker = Tracker(recipe.tracking.uri, recipe, "a-run", tmp_path)
    recorder = Recorder(
        History(tmp_path / "history.jsonl"), tracker, agents=2, rounds=9, evaluate_every=9, skills=[]
    )
    agents = Agents()
    roster = Roster(2, ConfigRecord())
    roster.gather(agents, timeout=1.0)  # type: ignore[arg-type]
    yield agents, roster, recorder
    tracker.finish("FINISHED")


def test_a_round_waits_for_who_has_just_gone_but_only_once(
    network: tuple[Agents, Roster, Recorder], monkeypatch: pytest.MonkeyPatch
) -> None:
    agents, roster, recorder = network
    gossip = Gossip(build_topology("full", 2), roster, recorder, finished=0, patience=5.0, silence=30.0)
    now, there = [0.0], {0.0: [11, 12]}
    monkeypatch.setattr(gossip_module.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(gossip_module.time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    agents.get_node_ids = lambda: there[max(when for when in there if when <= now[0])]  # type: ignore[method-assign]

    def asked(number: int) -> tuple[list[int], float]:
        messages = gossip.configure_train(number, ArrayRecord(), ConfigRecord(), agents)  # type: ignore[arg-type]
        return [NODES[message.metadata.dst_node_id] for message in messages], now[0]

    assert asked(1) == ([0, 1], 0.0)
    there |= {0.5: [], 3.0: [11, 12]}  # a SuperLink is started again, its nodes come back
    now[0] = 1.0
    assert asked(2) == ([0, 1], 3.0)
    there |= {4.0: [12]}
    now[0] = 4.0
    assert asked(3) == ([1], 9.0), "a dead agent is waited for"
    assert asked(4) == ([1], 9.0), "once"
    there |= {10.0: [11, 12], 11.0: []}
    now[0] = 10.0
    assert asked(5) == ([0, 1], 10.0)
    now[0] = 11.0
    with pytest.raises(RosterError, match="no agent has been connected for 30 s"):
        asked(6)


def test_envelopes_of_a_lost_reply_are_delivered_after_all(
    network: tuple[Agents, Roster, Recorder],
) -> None:
    agents, roster, recorder = network
    gossip = Gossip(build_topology("full", 2), roster, recorder, finished=0)
    mail: dict[int, list[dict[str, bytes]]] = {0: [], 1: []}
    for number in (1, 2, 3):
        messages = list(gossip.configure_train(number, ArrayRecord(), ConfigRecord(), agents))  # type: ignore[arg-type]
        replies = []
        for message in messages:
            agent = NODES[message.metadata.dst_node_id]
            mail[agent].append(unpack_envelopes(message.content, MAIL))
            reply = agents.train(message, number)
            lost = agent == 1 and number == 1  # the node died: Flower answers for it
            replies.append(Message(Error(5, "gone"), reply_to=message) if lost else reply)
        gossip.aggregate_train(number, replies)
    assert agents.greeted == [0, 1, 1]
    assert mail[0] == [{}, {"1/1/0": b"1 in 1"}, {"1/2/0": b"1 in 2"}]
    assert mail[1] == [{}, {"0/1/0": b"0 in 1"}, {"0/2/0": b"0 in 2"}], "what it had in round 1 was nothing"
