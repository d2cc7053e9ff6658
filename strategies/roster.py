"""Who takes part: stable agent numbers and did:keys behind Flower's node ids, which change with every restart."""

from __future__ import annotations

import json
import time
from collections.abc import Collection
from dataclasses import dataclass
from logging import INFO, WARNING

from flwr.app import ConfigRecord, Message, RecordDict
from flwr.common import log
from flwr.serverapp import Grid

from clients.protocol.messages import (
    ADDRESSES,
    CONFIG,
    NONCE,
    OUTBOX,
    PROOF,
    ROTATIONS,
    MessageError,
    config_value,
    unpack_addresses,
    unpack_envelopes,
    unpack_rotations,
)
from strategies.grids.progress import tell
from symphony_fl.errors import printable
from symphony_fl.exchange.messages.header import ROUND_LIMIT
from symphony_fl.identity.did_key import IdentityError, public_key_from_did
from symphony_fl.identity.proof_of_possession import check_proof, new_nonce
from symphony_fl.identity.rotation import MAX_ROTATIONS, ROTATION_BYTES, follow, read_rotations
from symphony_fl.launch.failure_causes import said
from symphony_fl.launch.progress import Step
from symphony_fl.refusals import BadSignature, Refusal

HELLO = "query.hello"
POLL_SECONDS = 0.5
AGAIN_SECONDS = 15.0  # before a node that could not introduce its agent is greeted again
GREETING_TIMEOUT = 600.0  # seconds; the first greeting loads the base model
_DIFFER = {"base": "hold different base models", "start": "begin with different adapters"}
UNHEARD_SECONDS = 60.0  # before one is sent again: it may be lost with a node that is back by now


class RosterError(RuntimeError):
    """The network of the recipe could not be gathered; the message says who is missing and why."""


@dataclass
class Member:
    """One agent, as it introduced itself."""

    agent: int
    node: int
    did: str
    round: int
    base: str
    outbox: dict[int, dict[str, bytes]]
    rotations: bytes = b""
    version: str = ""
    addresses: tuple[str, ...] = ()  # where neighbours reach it directly, if anywhere
    start: str = ""  # digest of theta_0, the adapter it begins with


@dataclass(frozen=True)
class _Greeting:
    """One that is under way: to which node, when (monotonic seconds), and what the answer must sign."""

    node: int
    sent: float
    nonce: bytes


class Roster:
    """The agents 0..N-1 of a run and the Flower nodes they are reached by.

    Parameters
    ----------
    agents : N
    greeting : what every node is told of the run
    last_round : the highest that an agent can say it has reached
    """

    def __init__(self, agents: int, greeting: ConfigRecord, last_round: int = ROUND_LIMIT) -> None:
        self.agents = agents
        self._last_round = last_round
        self._greeting = greeting
        self._members: dict[int, Member] = {}
        self._agents: dict[int, int] = {}  # node -> the agent that came with it, perhaps gone since
        self._greeted: set[int] = set()
        self._greetings: dict[str, _Greeting] = {}  # under way, by Flower's id
        self._present: set[int] = set()
        self._faults: dict[int, str] = {}
        self._again: dict[int, float] = {}  # node that refused -> when it is greeted again, monotonic
        self._common: dict[
            str, str
        ] = {}  # base and start of the agents gathered; late joiners' must be the same

    def gather(self, grid: Grid, timeout: float, least: int = 0) -> None:
        """Greet every node until all N agents, or `least` of them, have introduced themselves.

        Agents load libraries and the model before they answer, on a busy machine for minutes. So `timeout` counts only
        seconds in which no node is at work on its greeting, and begins anew with every agent that comes.

        Raises
        ------
        RosterError
            After `timeout` such seconds; when no agent has come for `timeout` + `GREETING_TIMEOUT` seconds, whatever
            nodes are at work on; as soon as every node refused and there are at least that many of them; or when two
            agents hold different base models, or begin with different adapters.
        """
        wanted = least or self.agents
        idle, seen = 0.0, -1
        last = came = time.monotonic()
        while len(self._members) < wanted:
            self.refresh(grid)
            now = time.monotonic()
            idle += 0.0 if self._at_work() else now - last
            last = now
            if len(self._members) > seen:
                idle, came, seen = 0.0, now, len(self._members)
                tell(Step("agents", seen, wanted))
            if seen >= wanted:
                break
            hopeless = len(self._present) >= wanted and set(self._faults) >= self._present
            if hopeless or idle > timeout or now - came > timeout + GREETING_TIMEOUT:
                raise RosterError(self._complaint(now - came))
            time.sleep(POLL_SECONDS)
        for what in ("base", "start"):
            found = {getattr(member, what) for member in self._members.values()}
            if len(found) > 1:
                named = ", ".join(f"agent {m.agent}: {getattr(m, what)}" for m in self.members())
                raise RosterError(f"the agents {_DIFFER[what]} ({named})")
            self._common[what] = found.pop()

    def _at_work(self) -> bool:
        """Whether a node that is connected has a greeting that it has not answered yet."""
        return any(g.node in self._present and g.node not in self._greeted for g in self._greetings.values())

    def refresh(self, grid: Grid) -> None:
        """See which nodes are connected, greet newcomers (late joiners, agents back under a new node id), and process
        the answers so far. Never blocks: an agent may load its model before it answers, or be gone."""
        self._present = set(grid.get_node_ids())
        now = time.monotonic()
        for node in [node for node, when in self._again.items() if now >= when]:
            self._forget(node)
        waiting = {g.node for g in self._greetings.values() if now - g.sent < UNHEARD_SECONDS}
        nodes = sorted(self._present - self._greeted - waiting)
        if nodes:
            log(INFO, "greeting %d node(s)", len(nodes))
            greetings = {node: new_nonce() for node in nodes}
            messages = [self._hello(node, nonce) for node, nonce in greetings.items()]
            taken = set(grid.push_messages(messages))
            for message in messages:  # of which Flower takes none for a node that has just gone
                if message.metadata.message_id in taken:
                    node = message.metadata.dst_node_id
                    self._greetings[message.metadata.message_id] = _Greeting(node, now, greetings[node])
        self.hear(grid)

    def hear(self, grid: Grid) -> bool:
        """Take in the introductions that have come; whether any has."""
        replies = list(grid.pull_messages(list(self._greetings))) if self._greetings else []
        for reply in replies:
            greeting = self._greetings.pop(reply.metadata.reply_to_message_id, None)
            if greeting is not None:
                self._welcome(greeting, reply)
        return bool(replies)

    def greet_again(self, agent: int) -> None:
        """Have a member introduce itself anew, with what it still holds, as soon as its node is there."""
        member = self._members.get(agent)
        if member is not None:
            self._greeted.discard(member.node)

    def awaited(self) -> set[int]:
        """Members whose node has been greeted and has not answered yet."""
        found = {self.agent_of(g.node) for g in self._greetings.values() if g.node not in self._greeted}
        return {agent for agent in found if agent is not None}

    def _hello(self, node: int, nonce: bytes) -> Message:
        config = ConfigRecord({**self._greeting, NONCE: nonce})
        return Message(RecordDict({CONFIG: config}), node, HELLO, ttl=GREETING_TIMEOUT)

    def _welcome(self, greeting: _Greeting, reply: Message) -> None:
        """Take a node's answer to its greeting. That an older one failed says nothing of who has answered since."""
        node = greeting.node
        if reply.has_error() and node in self._greeted and node not in self._faults:
            return
        self._greeted.add(node)
        self._faults.pop(node, None)
        if reply.has_error():
            self._faults[node] = printable(said(str(reply.error.reason)))
            # Its disk may be full, or its agent away. A member may hold envelopes that were never delivered.
            self._again[node] = time.monotonic() + (0.0 if node in self._agents else AGAIN_SECONDS)
            log(WARNING, "node %d does not take part: %s", node, self._faults[node])
        else:
            self._admit(node, reply.content, greeting.nonce)

    def _forget(self, node: int) -> None:
        """Greet a node once more; why it did not take part stands until it answers."""
        self._greeted.discard(node)
        self._again.pop(node, None)

    def moved(self, agent: int, addresses: tuple[str, ...]) -> None:
        """Where an agent can be reached directly now; it may have roamed, or been started again."""
        self._members[agent].addresses = addresses

    def present(self) -> list[Member]:
        """The members whose node is connected now, by agent number."""
        return [member for member in self.members() if member.node in self._present]

    def members(self) -> list[Member]:
        return [self._members[agent] for agent in sorted(self._members)]

    def agent_of(self, node: int) -> int | None:
        """The agent behind a node id, or None for a node that does not take part."""
        agent = self._agents.get(node)
        return agent if agent is not None and self._members[agent].node == node else None

    def introduction(self, agents: Collection[int] | None = None) -> dict[str, str | bytes]:
        """Of these agents, or all, for a config record: did:keys; changes of keys and addresses if there are any."""
        numbers = sorted(self._members if agents is None else self._members.keys() & set(agents))
        members = [self._members[number] for number in numbers]
        dids = json.dumps({str(member.agent): member.did for member in members})
        rotations = b"".join(member.rotations for member in members)
        book = {str(member.agent): member.addresses for member in members if member.addresses}
        found: dict[str, str | bytes] = {"roster": dids}
        if rotations:
            found[ROTATIONS] = rotations
        if book:
            found[ADDRESSES] = json.dumps(book)
        return found

    def summary(self) -> dict[str, dict[str, object]]:
        """Agent number -> who it is, for people."""
        return {
            str(m.agent): {"did": m.did, "node": str(m.node), "base": m.base, "version": m.version}
            for m in self.members()
        }

    def _admit(self, node: int, content: RecordDict, nonce: bytes) -> None:
        """Take an introduction; one that cannot be read keeps its node out and stops nothing."""
        try:
            if not 0 <= config_value(content, "agent", int) < self.agents:
                return  # a spare node: Flower may simulate more nodes than the recipe has agents
            member = _member(node, content, self._last_round)
            proof = config_value(content, PROOF, bytes)
            check_proof(member.did, str(self._greeting.get("run", "")), nonce, member.agent, proof)
        except (MessageError, IdentityError, BadSignature) as error:
            self._faults[node] = printable(str(error))
            log(WARNING, "node %d does not take part: %s", node, self._faults[node])
            return
        known = self._members.get(member.agent)
        if known is not None and not _same_agent(known, member):
            # The first key heard is the agent's; another node claiming its number is turned away, unless that key
            # signed over to this one. The agents check for themselves what they are told.
            log(WARNING, "node %d claims to be agent %d with another key: ignored", node, member.agent)
            return
        if any(other.did == member.did and other.agent != member.agent for other in self._members.values()):
            # Figures recorded by did:key, such as capabilities, must belong to one agent.
            self._faults[node] = f"agent {member.agent}: the key {member.did} is another agent's"
            log(WARNING, "node %d does not take part: %s", node, self._faults[node])
            return
        for what, ours in self._common.items():
            if getattr(member, what) != ours:
                named = {"base": "base model", "start": "initial adapter"}[what]
                self._faults[node] = (
                    f"agent {member.agent}: {named} {getattr(member, what)}, the others' is {ours}"
                )
                log(WARNING, "node %d does not take part: %s", node, self._faults[node])
                return
        self._members[member.agent] = member
        self._agents[node] = member.agent

    def _complaint(self, silence: float) -> str:
        missing = [str(agent) for agent in range(self.agents) if agent not in self._members]
        reasons = "; ".join(sorted(set(self._faults.values())))
        return (
            f"{len(self._members)} of {self.agents} agents introduced themselves, the last sign {silence:.0f} s ago; "
            f"missing: {', '.join(missing)}" + (f"; refused: {reasons}" if reasons else "")
        )


def _same_agent(known: Member, member: Member) -> bool:
    """Whether a newcomer holds the known key, or one that the known key signed over to."""
    if known.did == member.did:
        return True
    try:
        steps = follow(known.did, read_rotations(member.rotations))
    except Refusal as error:
        log(WARNING, "node %d, agent %d: refused: %s", member.node, member.agent, error)
        return False
    return any(step.new == member.did for step in steps)


def _member(node: int, content: RecordDict, last_round: int) -> Member:
    """The agent that introduces itself so.

    Raises
    ------
    MessageError, IdentityError
        A key is missing or of another type; the did:key names no key.
    """
    did = config_value(content, "did", str)
    public_key_from_did(did)
    outbox: dict[int, dict[str, bytes]] = {}
    for key, data in unpack_envelopes(content, OUTBOX).items():
        number, _, label = key.partition("/")
        if not number.isdecimal() or len(number) > 10 or int(number) > last_round:
            raise MessageError(
                f"{OUTBOX}: label {key!r:.80}: must be ROUND/LABEL, of round {last_round} at most"
            )
        outbox.setdefault(int(number), {})[label] = data
    agent, round = config_value(content, "agent", int), config_value(content, "round", int)
    if not 0 <= round <= last_round:
        raise MessageError(f"{CONFIG}.round = {round}: must be from 0 to {last_round}")
    rotations = unpack_rotations(content)
    if len(rotations) > MAX_ROTATIONS * ROTATION_BYTES or len(rotations) % ROTATION_BYTES:
        raise MessageError(f"{CONFIG}.{ROTATIONS}: {len(rotations)} bytes")
    base, version = (
        config_value(content, "base", str)[:64],
        str(content.config_records[CONFIG].get("version", "")),
    )
    start = str(content.config_records[CONFIG].get("start", ""))[:64]
    addresses = unpack_addresses(content)
    return Member(agent, node, did, round, base, outbox, rotations, version[:32], addresses, start)
