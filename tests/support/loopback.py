"""Nodes around Flower's real in-memory grid, without processes: they answer when, and in what order, a test says.

Real are the grid, its link state, time-to-live and what it says of lost nodes; a node is a function from message to
reply, such as our ClientApp with a home on disk.
"""

from __future__ import annotations

import random
import secrets
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from flwr.app import ConfigRecord, Context, Message, MessageType, RecordDict
from flwr.app.error import Error
from flwr.common.constant import SUPERLINK_NODE_ID, ErrorCode
from flwr.proto.task_pb2 import Task
from flwr.server.superlink.linkstate import LinkStateFactory
from flwr.server.superlink.linkstate.in_memory_linkstate import RunRecord
from flwr.supercore.constant import FLWR_IN_MEMORY_DB_NAME, NOOP_FEDERATION_ID
from flwr.supercore.object_store import ObjectStoreFactory
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity
from flwr.superlink.federation import NoOpFederationManager
from flwr.superlink.grid import InMemoryGrid

from clients.client_app import app
from clients.protocol.messages import (
    CONFIG,
    MAIL,
    NONCE,
    OUTBOX,
    PROOF,
    ROUND,
    config_value,
    pack_envelopes,
    pack_report,
    unpack_envelopes,
)
from strategies.roster import HELLO
from symphony_fl.config.options import Recipe
from symphony_fl.identity.did_key import did_from_public_key, public_key_of
from symphony_fl.identity.proof_of_possession import prove

Handler = Callable[[int, Message], Message]  # agent, message -> reply
OWNER, RUN, FOR_EVER = "owner", 1, 1e9


class Loopback:
    """A grid and its nodes, one per agent.

    Parameters
    ----------
    handler : what a node does.
    seed : of the order in which waiting messages are worked on.
    lost : (agent, message) -> whether the reply never leaves the node.
    """

    def __init__(
        self,
        handler: Handler,
        *,
        seed: int = 0,
        lost: Callable[[int, Message], bool] = lambda agent, message: False,
    ) -> None:
        TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = RUN, SUPERLINK_NODE_ID, 1
        factory = LinkStateFactory(FLWR_IN_MEMORY_DB_NAME, NoOpFederationManager(), ObjectStoreFactory())
        self.state = factory.state()
        run = Run.create_empty(RUN)
        run.primary_task_id, run.federation_id = RUN, NOOP_FEDERATION_ID
        self.state.task_store[RUN] = Task(task_id=RUN, run_id=RUN)
        self.state.run_ids[RUN] = RunRecord(run=run)
        self.grid = InMemoryGrid(state_factory=factory)
        self.grid.set_run(run)
        self.nodes: dict[int, int] = {}  # agent -> node id
        self.handler = handler
        self.lost = lost
        self.handled: list[tuple[int, str]] = []  # agent, message type
        self._rng = random.Random(seed)
        self._stop = threading.Event()

    def join(self, agent: int) -> int:
        """A new node for an agent, also for one that is back; its id."""
        node = self.state.create_node(OWNER, OWNER, secrets.token_bytes(32), heartbeat_interval=FOR_EVER)
        self.state.acknowledge_node_heartbeat(node, heartbeat_interval=FOR_EVER)
        self.nodes[agent] = node
        return node

    def leave(self, agent: int) -> None:
        """The agent's node is gone for good, with whatever was on its way."""
        self.state.delete_node(OWNER, self.nodes.pop(agent))

    @contextmanager
    def working(self) -> Iterator[InMemoryGrid]:
        """Nodes work while this lasts."""
        self._stop.clear()
        thread = threading.Thread(target=self._work, daemon=True)
        thread.start()
        try:
            yield self.grid
        finally:
            self._stop.set()
            thread.join()

    def _work(self) -> None:
        while not self._stop.wait(0.002):
            waiting = [
                (agent, message)
                for agent, node in list(self.nodes.items())
                for message in self.state.get_message_ins(node, limit=None)
            ]
            self._rng.shuffle(waiting)
            for agent, message in waiting:
                self.handled.append((agent, message.metadata.message_type))
                try:
                    reply = self.handler(agent, message)
                except Exception as error:
                    reply = Message(
                        Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, str(error)), reply_to=message
                    )
                if not self.lost(agent, message):
                    reply.metadata.__dict__["_message_id"] = secrets.token_hex(8)
                    self.state.store_message_res(reply)


def real_agents(folder: Path) -> Handler:
    """Our ClientApp, each agent with its home below the run's folder."""

    def handle(agent: int, message: Message) -> Message:
        context = Context(
            run_id=RUN,
            node_id=message.metadata.dst_node_id,
            node_config={"partition-id": agent},
            state=RecordDict(),
            run_config={"run-dir": str(folder)},
        )
        return app(message, context)

    return handle


def real_network(recipe: Recipe, folder: Path, seed: int = 0) -> Loopback:
    """Agents with homes and models."""
    loop = Loopback(real_agents(folder), seed=seed)
    for agent in range(recipe.agents):
        loop.join(agent)
    return loop


@dataclass
class Scripted:
    """Agents without a model: they answer at once, the same when asked twice, and note what they were given.

    Parameters
    ----------
    skills : of the run's recipe.
    """

    skills: Sequence[str]
    keys: dict[int, bytes] = field(default_factory=dict)
    rounds: dict[int, int] = field(default_factory=dict)
    given: dict[tuple[int, int], list[str]] = field(
        default_factory=dict
    )  # agent, own round -> labels of mail
    broken: set[int] = field(default_factory=set)

    def did(self, agent: int) -> str:
        key = self.keys.setdefault(agent, bytes([agent + 1]) * 32)
        return did_from_public_key(public_key_of(key))

    def __call__(self, agent: int, message: Message) -> Message:
        content = message.content
        if message.metadata.message_type == HELLO:
            round = self.rounds.get(agent, 0)
            kept = range(max(1, round - 1), round + 1)  # the last two rounds, as a home keeps them
            outbox = {f"{own}/0": self.envelope(agent, own) for own in kept}
            did, nonce = self.did(agent), config_value(content, NONCE, bytes)
            proof = prove(self.keys[agent], config_value(content, "run", str), nonce, agent)
            config = ConfigRecord({"agent": agent, "did": did, "round": round, "base": "b", PROOF: proof})
            return Message(RecordDict({CONFIG: config, OUTBOX: pack_envelopes(outbox)}), reply_to=message)
        if agent in self.broken:
            raise RuntimeError("broken")
        number = config_value(content, ROUND, int)
        if message.metadata.message_type == MessageType.EVALUATE:
            figures = {f"accuracy/{name}": 0.5 for name in ("mean", *self.skills)}
            report = pack_report({}, {"metrics": figures, "adapter": "aa"})
            return Message(RecordDict(report), reply_to=message)
        self.given.setdefault((agent, number), sorted(unpack_envelopes(content, MAIL)))
        self.rounds[agent] = max(number, self.rounds.get(agent, 0))
        report = pack_report({"num-examples": 1.0}, {"metrics": {"reward/local": 0.5}, "adapter": "aa"})
        outbox = pack_envelopes({"0": self.envelope(agent, number)})
        return Message(RecordDict({**report, OUTBOX: outbox}), reply_to=message)

    def envelope(self, agent: int, round: int) -> bytes:
        return f"agent {agent} round {round}".encode()
