"""Exchange, secrecy and peers of agents without a model, and a mailbox between them: what tests of the edge share."""

from __future__ import annotations

import numpy as np

from clients.agents.edge_encryption import EdgeEncryption
from clients.agents.exchange import Exchange
from clients.agents.known_keys import KnownKeys
from clients.home.pins import Pins
from clients.home.state_file import State
from strategies.mailbox import Mailbox
from symphony_fl.build.checks import check_recipe
from symphony_fl.config.recipe import load_recipe
from symphony_fl.exchange.flat import Layout

LAYOUT = Layout(names=("q.lora_A.weight", "q.lora_B.weight"), shapes=((4, 100), (100, 4)))
INITIAL = np.random.default_rng(7).standard_normal(LAYOUT.size).astype(np.float32)
ROUNDS = 20


class Node:
    """One agent's side of the edge, with the steps an `Agent` makes."""

    def __init__(
        self,
        number: int,
        agents: int,
        *overrides: str,
        run: str = "run",
        key: bytes = b"",
        pins: Pins | None = None,
    ) -> None:
        options = [f"agents={agents}", f"rounds={ROUNDS}", "exchange.encryption=edge", *overrides]
        self.recipe = check_recipe(load_recipe("gossip", options))
        self.state = State(adapter=INITIAL + np.float32(number))
        self.key = key or bytes([number + 1]) * 32
        self.run, self.number, self.pins = run, number, pins
        self.open(b"")

    def open(self, rotations: bytes) -> None:
        """As from a home whose key has seen these rotations."""
        arrays = self.state.arrays
        self.exchange = Exchange(
            self.key, self.number, self.recipe, self.run, bytes(16), LAYOUT, INITIAL, arrays
        )
        self.did = self.exchange.did
        self.known_keys = KnownKeys(
            self.state, self.number, self.did, rotations, self.recipe.agents, self.pins
        )
        self.encryption = EdgeEncryption(self.exchange)
        self.plain: dict[str, bytes] = {}

    def hand_over(self, round: int) -> dict[str, bytes]:
        """The round's parcels; `plain` has what is in them."""
        self.state.round = round
        sealed = self.exchange.seal(self.state, round)
        self.plain, self.state.relay = sealed.outbox, {}
        parcels, self.figures = self.encryption.seal(self.state, sealed.outbox, round)
        return parcels

    def take(self, mail: dict[str, bytes]) -> dict[str, float]:
        """Open and merge; refusals by name and how many were merged."""
        pieces, refused = self.encryption.open(self.state, mail)
        merged = self.exchange.merge(self.state, pieces)
        self.state.adapter = merged.adapter
        self.state.arrays |= self.exchange.arrays()
        wanted = {name: value for name, value in merged.metrics.items() if name.startswith("refused/")}
        return {**wanted, **refused, "merged": merged.metrics["merged"]}


class Network:
    """A ring of nodes that know each other's keys."""

    def __init__(self, agents: int, *overrides: str) -> None:
        self.nodes = [Node(number, agents, *overrides) for number in range(agents)]
        self.roster = {node.number: node.did for node in self.nodes}
        for node in self.nodes:
            assert node.known_keys.admit(node.state, self.roster, b"") == {}
        self.mailbox = Mailbox()

    def post(self, round: int) -> None:
        """Every node's parcels go before its neighbours."""
        for node in self.nodes:
            assert node.exchange.topology is not None
            neighbours = node.exchange.topology.neighbours(node.number, round)
            self.mailbox.post(node.number, round, neighbours, node.hand_over(round))

    def deliver(self, number: int) -> dict[str, bytes]:
        """Everything that waits for a node; it is not delivered again."""
        mail = dict(self.mailbox.mail(number))
        self.mailbox.confirm(number, mail)
        return mail
