"""Whom the roster admits: the first key heard for a number, and no key under two numbers."""

from __future__ import annotations

from flwr.app import ConfigRecord, RecordDict

from clients.messages import CONFIG, OUTBOX, pack_envelopes
from strategies.roster import Roster
from symphony_fl.exchange.identity import did_from_public_key, generate_private_key, public_key_of


def _introduction(agent: int, did: str) -> RecordDict:
    config = ConfigRecord({"agent": agent, "did": did, "round": 0, "base": "ab"})
    return RecordDict({CONFIG: config, OUTBOX: pack_envelopes({})})


def test_a_key_belongs_to_one_agent_and_a_number_to_one_key() -> None:
    first, second = (did_from_public_key(public_key_of(generate_private_key())) for _ in range(2))
    roster = Roster(2, ConfigRecord())
    roster._admit(11, _introduction(0, first))
    roster._admit(12, _introduction(1, first))
    roster._admit(13, _introduction(0, second))
    assert [(member.agent, member.node, member.did) for member in roster.members()] == [(0, 11, first)]
    roster._admit(14, _introduction(1, second))
    roster._admit(15, _introduction(0, first))  # back under a new node id
    assert [(member.agent, member.node, member.did) for member in roster.members()] == [
        (0, 15, first),
        (1, 14, second),
    ]
