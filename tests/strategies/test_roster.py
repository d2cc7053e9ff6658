"""Whom the roster admits: the first key heard for a number, and no key under two numbers."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import pytest
from at_once import AtOnce
from flwr.app import ConfigRecord, Error, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from clients.protocol.messages import (
    ADDRESSES,
    CONFIG,
    NONCE,
    OUTBOX,
    PROOF,
    ROTATIONS,
    config_value,
    pack_envelopes,
)
from strategies import roster as roster_module
from strategies import server_app
from strategies.roster import Roster
from symphony_fl.config.recipe import load_recipe
from symphony_fl.identity.did_key import did_from_public_key, generate_private_key, public_key_of
from symphony_fl.identity.proof_of_possession import prove
from symphony_fl.identity.rotation import seal_rotation
from symphony_fl.metrics.history import Event, History

RUN, NONCE_SENT = "a-run", bytes(range(16))


def _did(key: bytes) -> str:
    return did_from_public_key(public_key_of(key))


def _introduction(
    agent: int,
    key: bytes,
    rotations: bytes = b"",
    *,
    nonce: bytes = NONCE_SENT,
    claims: str = "",
    round: int = 0,
    start: str = "cd",
) -> RecordDict:
    """Of an agent that holds the key, and says that it is `claims`."""
    proof = prove(key, RUN, nonce, agent)
    config = ConfigRecord(
        {
            "agent": agent,
            "did": claims or _did(key),
            "round": round,
            "base": "ab",
            "start": start,
            PROOF: proof,
        }
    )
    if rotations:
        config[ROTATIONS] = rotations
    return RecordDict({CONFIG: config, OUTBOX: pack_envelopes({})})


def _answer(message: Message, agent: int, key: bytes) -> Message:
    nonce = config_value(message.content, NONCE, bytes)
    return Message(_introduction(agent, key, nonce=nonce), reply_to=message)


def test_a_key_belongs_to_one_agent_and_a_number_to_one_key() -> None:
    first, second = generate_private_key(), generate_private_key()
    roster = Roster(2, ConfigRecord({"run": RUN}))
    roster._admit(11, _introduction(0, first), NONCE_SENT)
    roster._admit(12, _introduction(1, first), NONCE_SENT)
    roster._admit(13, _introduction(0, second), NONCE_SENT)
    assert [(member.agent, member.node, member.did) for member in roster.members()] == [(0, 11, _did(first))]
    roster._admit(14, _introduction(1, second), NONCE_SENT)
    roster._admit(15, _introduction(0, first), NONCE_SENT)  # back under a new node id
    assert [(member.agent, member.node, member.did) for member in roster.members()] == [
        (0, 15, _did(first)),
        (1, 14, _did(second)),
    ]


def test_agents_that_begin_with_different_adapters_are_refused_by_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 1, 1
    keys = [generate_private_key() for _ in range(3)]
    starts = ["aa", "bb"]
    monkeypatch.setattr(roster_module.time, "sleep", lambda seconds: None)

    class Grid(AtOnce):
        def get_node_ids(self) -> list[int]:
            return [11, 12]

        def answer(self, message: Message) -> Message:
            agent = message.metadata.dst_node_id - 11
            nonce = config_value(message.content, NONCE, bytes)
            said = _introduction(agent, keys[agent], nonce=nonce, start=starts[agent])
            return Message(said, reply_to=message)

    with pytest.raises(
        roster_module.RosterError, match=r"begin with different adapters \(agent 0: aa, agent 1: bb\)"
    ):
        Roster(2, ConfigRecord({"run": RUN})).gather(Grid(), 1.0)
    starts[1] = "aa"
    roster = Roster(3, ConfigRecord({"run": RUN}))
    roster.gather(Grid(), 1.0, least=2)
    roster._admit(13, _introduction(2, keys[2], start="bb"), NONCE_SENT)
    assert len(roster.members()) == 2 and "initial adapter bb, the others' is aa" in roster._faults[13]
    roster._admit(13, _introduction(2, keys[2], start="aa"), NONCE_SENT)
    assert len(roster.members()) == 3


def test_a_key_that_the_known_one_signed_over_to_is_admitted_and_passed_on() -> None:
    keys = [generate_private_key() for _ in range(3)]
    old, new, third = keys
    roster = Roster(1, ConfigRecord({"run": RUN}))
    roster._admit(11, _introduction(0, old), NONCE_SENT)
    assert set(roster.introduction()) == {"roster"}
    statement = seal_rotation(keys[0], keys[1], 1)
    roster._admit(12, _introduction(0, new), NONCE_SENT)  # on its own word
    roster._admit(13, _introduction(0, third, statement), NONCE_SENT)  # another than the one signed over to
    roster._admit(14, _introduction(0, third, statement[:100] + bytes(96)), NONCE_SENT)  # forged
    roster._admit(15, _introduction(0, third, statement[:-1]), NONCE_SENT)  # cut
    assert [(member.node, member.did) for member in roster.members()] == [(11, _did(old))]
    roster._admit(16, _introduction(0, new, statement), NONCE_SENT)
    assert [(member.node, member.did) for member in roster.members()] == [(16, _did(new))]
    assert roster.introduction() == {"roster": json.dumps({"0": _did(new)}), ROTATIONS: statement}


def test_who_could_not_introduce_itself_is_greeted_again(monkeypatch: pytest.MonkeyPatch) -> None:
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 1, 1
    keys = {node: generate_private_key() for node in (11, 12)}
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
            return Message(
                _introduction(node - 11, keys[node], nonce=message.content.config_records[CONFIG][NONCE]),
                reply_to=message,
            )

    grid = Grid()
    roster = Roster(2, ConfigRecord({"run": RUN}))
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
    keys = {node: generate_private_key() for node in (11, 12, 13)}
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
            return Message(
                _introduction(node - 11, keys[node], nonce=message.content.config_records[CONFIG][NONCE]),
                reply_to=message,
            )

        def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
            """Node 12 takes 30 s for an answer; node 13's first one is lost."""
            late = {"message-2": 30.0, "message-3": float("inf")}
            return super().pull_messages(name for name in message_ids if now[0] >= late.get(name, 0.0))

    grid = Grid()
    roster = Roster(3, ConfigRecord({"run": RUN}))
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
    keys = [generate_private_key() for _ in range(3)]
    roster = Roster(3, ConfigRecord({"run": RUN}))
    for agent, addresses in ((0, '["127.0.0.1:1"]'), (1, "[]"), (2, '["example.org:1"]')):
        content = _introduction(agent, keys[agent])
        content.config_records[CONFIG][ADDRESSES] = addresses
        roster._admit(11 + agent, content, NONCE_SENT)
    assert [member.agent for member in roster.members()] == [0, 1]
    assert json.loads(str(roster.introduction()[ADDRESSES])) == {"0": ["127.0.0.1:1"]}
    assert ADDRESSES not in roster.introduction({1})
    roster.moved(1, ("10.0.0.1:2",))
    assert json.loads(str(roster.introduction()[ADDRESSES])) == {"0": ["127.0.0.1:1"], "1": ["10.0.0.1:2"]}


def test_nobody_takes_a_place_without_its_key() -> None:
    """A did:key is public: who names one must sign what it was greeted with, for this run and number."""
    true, false = generate_private_key(), generate_private_key()
    roster = Roster(2, ConfigRecord({"run": RUN}))
    for node, content in enumerate(
        (
            _introduction(0, false, claims=_did(true)),
            _introduction(0, true, nonce=bytes(16)),  # of another greeting
            _introduction(1, true),  # of another number
        )
    ):
        if node == 2:
            content.config_records[CONFIG]["agent"] = 0
        roster._admit(node, content, NONCE_SENT)
    bare = _introduction(0, true)
    del bare.config_records[CONFIG][PROOF]
    roster._admit(3, bare, NONCE_SENT)
    assert roster.members() == [] and all(
        "agent 0" in fault or PROOF in fault for fault in roster._faults.values()
    )
    roster._admit(4, _introduction(0, true), NONCE_SENT)
    roster._admit(5, _introduction(0, false, claims=_did(true)), NONCE_SENT)
    assert [(member.agent, member.node) for member in roster.members()] == [(0, 4)]


def test_no_agent_is_further_than_the_run_reaches() -> None:
    roster = Roster(2, ConfigRecord({"run": RUN}), last_round=20)
    roster._admit(11, _introduction(0, generate_private_key(), round=10**9), NONCE_SENT)
    roster._admit(12, _introduction(1, generate_private_key(), round=20), NONCE_SENT)
    ahead = _introduction(0, generate_private_key())
    ahead[OUTBOX] = pack_envelopes({"21/0": b"x"})
    roster._admit(13, ahead, NONCE_SENT)
    assert [member.agent for member in roster.members()] == [1]
    assert "from 0 to 20" in roster._faults[11] and "of round 20 at most" in roster._faults[13]


def test_a_run_goes_on_where_the_network_was_and_not_where_its_slowest_agent_is(tmp_path: Path) -> None:
    recipe = load_recipe("smoke", ["rounds=9"])
    keys = [generate_private_key() for _ in range(3)]

    def finished(rounds: tuple[int, int, int], booked: int) -> int:
        roster = Roster(3, ConfigRecord({"run": RUN}), last_round=9)
        for agent, round in enumerate(rounds):
            roster._admit(11 + agent, _introduction(agent, keys[agent], round=round), NONCE_SENT)
        history = History(tmp_path / f"{booked}-{rounds}.jsonl")
        for number in range(1, booked + 1):
            history.add(Event("train", number, 0, {}, "aa"))
        return server_app._finished(recipe, roster, history)

    assert finished((6, 6, 6), 6) == 6 and finished((7, 6, 6), 6) == 6 and finished((0, 0, 0), 0) == 0
    assert finished((7, 6, 6), 7) == 6, "killed in the middle of round 7"
    assert finished((6, 6, 2), 6) == 5, "one was away since round 2: homes answer for their last two rounds"
    assert finished((6, 6, 0), 6) == 5, "one has a new home"


class _Slow(AtOnce):
    """Nodes that join and answer at times of the test's clock; a node without a time to answer never does."""

    def __init__(self, now: list[float], joins: dict[int, float], answers: dict[int, float]) -> None:
        super().__init__()
        self.now, self.joins, self.answers = now, joins, answers
        self.keys = {node: generate_private_key() for node in joins}
        self._held: dict[str, int] = {}

    def get_node_ids(self) -> list[int]:
        return [node for node, when in self.joins.items() if when <= self.now[0]]

    def answer(self, message: Message) -> Message:
        node = message.metadata.dst_node_id
        self._held[message.metadata.message_id] = node
        return _answer(message, node - 11, self.keys[node])

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        ready = [
            name for name in message_ids if self.answers.get(self._held[name], float("inf")) <= self.now[0]
        ]
        return super().pull_messages(ready)


@pytest.mark.parametrize(
    ("joins", "answers", "ends", "found"),
    [
        # All are there at once and load for longer than wait_for_nodes, one after the other, as on a busy machine.
        ({11: 0, 12: 0, 13: 0}, {11: 400, 12: 700, 13: 1000}, 1000, 3),
        # One comes when wait_for_nodes is almost over since the last, and is waited for while it loads.
        ({11: 0, 12: 0, 13: 170}, {11: 1, 12: 2, 13: 500}, 500, 3),
        # One never comes: waited for as long as the recipe says since the last one came.
        ({11: 0, 12: 0, 13: 9999}, {11: 50, 12: 100, 13: 9999}, 280, 2),
        # Nobody comes.
        ({11: 9999, 12: 9999, 13: 9999}, {}, 180, 0),
        # One is there and never answers: it is given as long as a greeting lives, once.
        ({11: 0, 12: 0, 13: 0}, {11: 50, 12: 100}, 100 + 180 + 600, 2),
    ],
)
def test_only_time_in_which_nobody_is_at_work_counts(
    monkeypatch: pytest.MonkeyPatch,
    joins: dict[int, float],
    answers: dict[int, float],
    ends: float,
    found: int,
) -> None:
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 1, 1
    now = [0.0]
    monkeypatch.setattr(roster_module.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(roster_module.time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    roster = Roster(3, ConfigRecord({"run": RUN}))
    grid = _Slow(now, joins, answers)
    if found == 3:
        roster.gather(grid, 180.0)  # type: ignore[arg-type]
    else:
        with pytest.raises(roster_module.RosterError, match=f"{found} of 3 agents introduced themselves"):
            roster.gather(grid, 180.0)  # type: ignore[arg-type]
    assert len(roster.members()) == found
    assert ends <= now[0] <= ends + 2.0


def test_what_ray_says_of_a_failure_is_cut_to_what_the_app_said(monkeypatch: pytest.MonkeyPatch) -> None:
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 1, 1
    reason = (
        "<class 'ray.exceptions.RayTaskError(ClientAppException)'>:<'\x1b[36m"
        "ray::ClientAppActor.run()\x1b[39m (pid=1)\n"
        '  File "client_app.py", line 161, in __call__\n'
        "    return self._registered_funcs[full_name](message, context)\n"
        "flwr.clientapp.client_app.ClientAppException: \n"
        "Exception ClientAppException occurred. Message: invalid syntax (agent.py, line 34)'>"
    )

    class Grid(AtOnce):
        def get_node_ids(self) -> list[int]:
            return [11]

        def answer(self, message: Message) -> Message:
            return Message(Error(2, reason), reply_to=message)

    with pytest.raises(roster_module.RosterError) as error:
        Roster(1, ConfigRecord({"run": RUN})).gather(Grid(), 180.0)  # type: ignore[arg-type]
    assert str(error.value).endswith("missing: 0; refused: invalid syntax (agent.py, line 34)")
