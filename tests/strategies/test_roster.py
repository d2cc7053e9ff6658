"""Whom the roster admits: the first key heard for a number, and no key under two numbers."""

from __future__ import annotations

import json
from collections.abc import Iterable

import pytest
from at_once import AtOnce
from flwr.app import ConfigRecord, Error, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from clients.messages import ADDRESSES, CONFIG, OUTBOX, ROTATIONS, pack_envelopes
from strategies import roster as roster_module
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


def test_who_could_not_introduce_itself_is_greeted_again(monkeypatch: pytest.MonkeyPatch) -> None:
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 1, 1
    dids = {node: did_from_public_key(public_key_of(generate_private_key())) for node in (11, 12)}
    full, now = {12}, [0.0]
    greeted: list[int] = []
    monkeypatch.setattr(roster_module.time, "monotonic", lambda: now[0])

    class Grid(AtOnce):
        def get_node_ids(self) -> list[int]:
            return [11, 12]

        def answer(self, message: Message) -> Message:
            node = message.metadata.dst_node_id
            greeted.append(node)
            if node in full:
                return Message(Error(2, "no space left on device"), reply_to=message)
            return Message(_introduction(node - 11, dids[node]), reply_to=message)

    grid = Grid()
    roster = Roster(2, ConfigRecord())
    for when in (0.0, 10.0, 15.0):  # a stranger, as at the start of a run
        now[0] = when
        roster.refresh(grid)  # type: ignore[arg-type]
    assert greeted == [11, 12, 12]
    full.clear()
    now[0] = 30.0
    roster.refresh(grid)  # type: ignore[arg-type]
    assert [member.agent for member in roster.members()] == [0, 1]
    greeted.clear()
    full.add(11)
    roster.greet_again(0)  # its reply was lost, and its disk is full
    for _ in range(3):
        roster.refresh(grid)  # type: ignore[arg-type]
    full.clear()
    roster.refresh(grid)  # type: ignore[arg-type]
    roster.refresh(grid)  # type: ignore[arg-type]
    assert greeted == [11, 11, 11, 11]


def test_who_answers_late_or_never_keeps_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """One loads its model for long; another's greeting is lost with its node, which comes back under the same id."""
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 1, 1
    dids = {node: did_from_public_key(public_key_of(generate_private_key())) for node in (11, 12, 13)}
    now = [0.0]
    monkeypatch.setattr(roster_module.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(roster_module.time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))

    class Grid(AtOnce):
        def __init__(self) -> None:
            super().__init__()
            self.greeted: list[int] = []

        def get_node_ids(self) -> list[int]:
            return [11, 12, 13]

        def answer(self, message: Message) -> Message:
            node = message.metadata.dst_node_id
            self.greeted.append(node)
            return Message(_introduction(node - 11, dids[node]), reply_to=message)

        def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
            """Node 12 takes 30 s for an answer; node 13's first one is lost."""
            late = {"message-2": 30.0, "message-3": float("inf")}
            return super().pull_messages(name for name in message_ids if now[0] >= late.get(name, 0.0))

    grid = Grid()
    roster = Roster(3, ConfigRecord())
    roster.gather(grid, timeout=100.0, least=1)  # type: ignore[arg-type]
    assert ([member.agent for member in roster.members()], now[0]) == ([0], 0.0)
    roster.gather(grid, timeout=100.0, least=2)  # type: ignore[arg-type]
    assert ([member.agent for member in roster.members()], now[0]) == ([0, 1], 30.0)
    roster.gather(grid, timeout=100.0)  # type: ignore[arg-type]
    assert ([member.agent for member in roster.members()], now[0]) == ([0, 1, 2], 60.0)
    assert grid.greeted == [11, 12, 13, 13]
    roster.greet_again(0)
    late = roster.awaited()
    roster.refresh(grid)  # type: ignore[arg-type]
    assert (late, roster.awaited(), grid.greeted[4:]) == (set(), set(), [11])


def test_addresses_are_handed_on_and_bad_ones_keep_nobody_else_out() -> None:
    dids = [did_from_public_key(public_key_of(generate_private_key())) for _ in range(3)]
    roster = Roster(3, ConfigRecord())
    for agent, addresses in ((0, '["127.0.0.1:1"]'), (1, "[]"), (2, '["example.org:1"]')):
        content = _introduction(agent, dids[agent])
        content.config_records[CONFIG][ADDRESSES] = addresses
        roster._admit(11 + agent, content)
    assert [member.agent for member in roster.members()] == [0, 1]
    assert json.loads(str(roster.introduction()[ADDRESSES])) == {"0": ["127.0.0.1:1"]}
    assert ADDRESSES not in roster.introduction({1})
    roster.moved(1, ("10.0.0.1:2",))
    assert json.loads(str(roster.introduction()[ADDRESSES])) == {"0": ["127.0.0.1:1"], "1": ["10.0.0.1:2"]}
