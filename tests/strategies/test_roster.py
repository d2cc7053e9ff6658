"""Whom the roster admits: the first key heard for a number, and no key under two numbers."""

from __future__ import annotations

import json

from flwr.app import ConfigRecord, RecordDict

from clients.messages import CONFIG, OUTBOX, ROTATIONS, pack_envelopes
from strategies.roster import Roster
from symphony_fl.exchange.identity import did_from_public_key, generate_private_key, public_key_of
from symphony_fl.exchange.rotation import seal_rotation


def _introduction(agent: int, did: str, rotations: bytes = b"") -> RecordDict:
    config = ConfigRecord({"agent": agent, "did": did, "round": 0, "base": "ab"})
    if rotations:
        config[ROTATIONS] = rotations
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


def test_a_key_that_the_known_one_signed_over_to_is_admitted_and_passed_on() -> None:
    keys = [generate_private_key() for _ in range(3)]
    old, new, third = (did_from_public_key(public_key_of(key)) for key in keys)
    roster = Roster(1, ConfigRecord())
    roster._admit(11, _introduction(0, old))
    assert set(roster.introduction()) == {"roster"}
    statement = seal_rotation(keys[0], keys[1], 1)
    roster._admit(12, _introduction(0, new))  # on its own word
    roster._admit(13, _introduction(0, third, statement))  # another than the one signed over to
    roster._admit(14, _introduction(0, third, statement[:100] + bytes(96)))  # forged
    roster._admit(15, _introduction(0, third, statement[:-1]))  # cut
    assert [(member.node, member.did) for member in roster.members()] == [(11, old)]
    roster._admit(16, _introduction(0, new, statement))
    assert [(member.node, member.did) for member in roster.members()] == [(16, new)]
    assert roster.introduction() == {"roster": json.dumps({"0": new}), ROTATIONS: statement}
