"""An agent's side of the exchange: what it shares after a round, and what it makes of its neighbours' mail."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from clients.home.state_file import State
from clients.protocol.addressing import handed_over_by, label_for
from symphony_fl.build.asynchrony import last_round
from symphony_fl.build.components import (
    recipe_attack,
    recipe_codec,
    recipe_density,
    recipe_rule,
    recipe_selection,
    recipe_topology,
)
from symphony_fl.config.exchange import EpidemicOptions
from symphony_fl.config.options import Recipe
from symphony_fl.exchange.flat import Layout, digest
from symphony_fl.exchange.lora_merge_error import lora_merge_error
from symphony_fl.exchange.messages.envelope import open_envelope, seal
from symphony_fl.exchange.messages.header import RewardReport
from symphony_fl.exchange.messages.session import Expectation, Session, Update
from symphony_fl.exchange.rules.epidemic import Epidemic
from symphony_fl.exchange.rules.rule import Offer, Received
from symphony_fl.exchange.selection.density import Adaptive
from symphony_fl.exchange.staleness import staleness, staleness_weight
from symphony_fl.identity.did_key import did_from_public_key, public_key_of
from symphony_fl.refusals import Refusal, Replayed, TooStale

PREFIX = "rule/"  # of the rule's arrays in the home
DENSITY = "density"  # the array of an adaptive density


@dataclass(frozen=True)
class Outcome:
    """The adapter after a merge or a sealing, float32 [P], figures about it, labelled envelopes to send, and
    the rewards others reported: (sender, its round, reports)."""

    adapter: np.ndarray
    metrics: dict[str, float]
    outbox: dict[str, bytes] = field(default_factory=dict)
    rewards: list[tuple[int, int, tuple[RewardReport, ...]]] = field(default_factory=list)


class Exchange:
    """Rule, selection, coding and keys of one agent, set up from the run's recipe.

    Parameters
    ----------
    key : the agent's Ed25519 private key, 32 raw bytes
    number : the agent's number
    run : the run's name, which every envelope is bound to
    base : 16-byte digest of the base model
    layout : of the adapter
    initial : the adapter all agents of the run begin with, float32 [P]
    arrays : the home's arrays; those under "rule/" and "density" bring the state of both back
    """

    def __init__(
        self,
        key: bytes,
        number: int,
        recipe: Recipe,
        run: str,
        base: bytes,
        layout: Layout,
        initial: np.ndarray,
        arrays: dict[str, np.ndarray],
    ) -> None:
        self.key = key
        self.did = did_from_public_key(public_key_of(key))
        self.number = number
        self.topology = None if recipe.strategy.name == "isolated" else recipe_topology(recipe)
        rule = recipe.exchange.rule
        self.forwarding = rule.forwarding if isinstance(rule, EpidemicOptions) else "tree"
        self.last_round = last_round(recipe)
        self.in_step = not recipe.asynchronous
        self.max_staleness = recipe.async_gossip.max_staleness
        self.staleness_power = recipe.async_gossip.staleness_power
        self.layout = layout
        self.initial = initial
        self.attack = recipe_attack(recipe, number)
        self.density = recipe_density(recipe, layout.size)
        self.selection = recipe_selection(recipe, layout, self.density)
        self.rule = recipe_rule(recipe, layout.size, number)
        kept = {name.removeprefix(PREFIX): array for name, array in arrays.items() if name.startswith(PREFIX)}
        if kept:
            self.rule.load_state(
                {name: initial if _stands_for_initial(array) else array for name, array in kept.items()}
            )
        if isinstance(self.density, Adaptive) and DENSITY in arrays:
            self.density.value = arrays[DENSITY].copy()
        self.session = Session(
            run=hashlib.sha256(f"{run}\0{recipe.digest}".encode()).digest()[:16],
            base=base,
            layout=layout.digest,
            kind=self.rule.kind,
            selection=self.selection,
            codec=recipe_codec(recipe),
        )

    def arrays(self) -> dict[str, np.ndarray]:
        """The rule's state, to be committed with everything else. An array that is the adapter all agents begin with,
        as it follows from the recipe, is kept without its entries."""
        kept = {
            PREFIX + name: array[:0] if _same_bits(array, self.initial) else array
            for name, array in self.rule.state.items()
        }
        return kept | {DENSITY: self.density.value} if isinstance(self.density, Adaptive) else kept

    def start(self, adapter: np.ndarray) -> np.ndarray:
        """What a round of learning starts from, float32 [P]."""
        return self.rule.start(adapter)

    def seal(self, state: State, round: int, rewards: Sequence[RewardReport] = ()) -> Outcome:
        """Select, code and sign what this round shares (eq. 3): one envelope, the same for every neighbour, and
        the envelopes of others that are to be passed on."""
        if self.topology is None or not self.topology.neighbours(self.number, round):
            return Outcome(state.adapter, {})
        offer = self._harmed(self.rule.offer(state.adapter), round)
        indices = self.selection.select(offer.score, round)
        sealed = seal(
            self.session,
            self.key,
            round=round,
            indices=indices,
            values=offer.values[indices],
            adapter=digest(state.adapter),
            rewards=rewards,
        )
        adapter = self.rule.record(state.adapter, indices, sealed.update.values, round)
        metrics = {
            "entries": float(indices.size),
            "density": indices.size / self.layout.size,
            "envelope_bytes": float(len(sealed.data)),
        }
        if self.rule.kind != "values":
            unknown = offer.values.copy()
            unknown[indices] -= sealed.update.values
            metrics |= self._drift(float(np.linalg.norm(unknown)), state.adapter)
        return Outcome(adapter, metrics, {label_for(0): sealed.data} | state.relay)

    def _harmed(self, offer: Offer, round: int) -> Offer:
        """What a hostile agent of an experiment offers in place of an honest one's."""
        if self.attack is None:
            return offer
        still = self.initial if self.rule.kind == "values" else np.zeros_like(offer.values)
        values = still + self.attack(offer.values - still, round)
        return Offer(values, score=values - still)

    def merge(self, state: State, mail: Mapping[str, bytes]) -> Outcome:
        """Open and merge the mail (eq. 4).

        Newest rounds per sender go into `state.last_seen`, what is to be passed on into `state.relay`.
        """
        counts: dict[str, float] = {}
        received: list[Received] = []
        ages: list[int] = []
        heard = []
        for label, data in mail.items():
            try:
                update = self._open(state, data)
                ages.append(self._age(state, update))
            except Refusal as error:
                name = f"refused/{error.name}"
                if isinstance(self.rule, Epidemic) and isinstance(error, Replayed):
                    name = "duplicates"  # several neighbours pass the same envelope on
                counts[name] = counts.get(name, 0) + 1
                continue
            state.last_seen[update.sender] = max(update.round, state.last_seen.get(update.sender, 0))
            received.append(self._weighed(state, update, ages[-1]))
            heard.append((received[-1].sender, update.round, update.rewards))
            if isinstance(self.rule, Epidemic) and self.rule.passes_on(
                update.round, self._reached(state, update)
            ):
                self._relay(state, received[-1].sender, label, data)
        metrics = counts | {"merged": float(len(received))}
        if not received:
            return Outcome(state.adapter, metrics)
        metrics["staleness"] = float(np.mean(ages))
        metrics |= self._distances(state, received)
        return Outcome(self.rule.merge(state.adapter, received, state.round), metrics, rewards=heard)

    def _open(self, state: State, data: bytes) -> Update:
        """Raises Refusal, also for an agent of the run that has no business to send to this one."""
        assert self.topology is not None  # agents that learn alone get no mail from an honest server
        if isinstance(self.rule, Epidemic):
            senders = [did for number, did in state.roster.items() if int(number) != self.number]
            missing = {
                state.roster[str(sender)]: rounds
                for sender, rounds in self.rule.seen.missing.items()
                if str(sender) in state.roster
            }
        else:
            senders = self.near(state)
            missing = {}
        return open_envelope(
            data, Expectation(self.session, senders, state.last_seen, missing, self.last_round)
        )

    def _age(self, state: State, update: Update) -> int:
        """How many rounds late an update is.

        With a round barrier: the receiver's round less the sender's. Without one: see `staleness.py`.

        Raises
        ------
        TooStale
            The update is beyond the bound and the rule can do without it. Where the rule needs every update, a late
            one gets weight 0: `choco` must keep its copy of the sender exact. `epidemic`, whose sum must be the same
            at every agent, has a window instead.
        """
        if self.in_step:
            return state.round - update.round
        age = staleness(state.round, state.heard.get(update.sender, 0))
        state.heard[update.sender] = state.round
        if age > self.max_staleness and self.rule.kind != "difference" and not self.rule.forwards:
            state.last_seen[update.sender] = update.round
            raise TooStale(f"{age} rounds, at most {self.max_staleness}")
        return age

    def _reached(self, state: State, update: Update) -> int:
        """The round against which the age of an update that is passed on is told."""
        if self.in_step:
            return state.round
        return max(update.round, state.last_seen[update.sender])

    def near(self, state: State) -> list[str]:
        """The did:keys of those who may send to this agent: its neighbours of this round and the next."""
        if self.topology is None:
            return []
        rounds = (state.round, state.round + 1)
        numbers = {n for round in rounds for n in self.topology.neighbours(self.number, round)}
        return [did for number, did in state.roster.items() if int(number) in numbers]

    def _relay(self, state: State, origin: int, label: str, data: bytes) -> None:
        """Keep an envelope that was new to us for the neighbours that do not have it from elsewhere."""
        assert self.topology is not None
        next_round = state.round + 1
        if self.forwarding == "tree":
            recipients = list(self.topology.children(self.number, origin, next_round))
        else:
            had = {str(origin), handed_over_by(label)}
            recipients = [n for n in self.topology.neighbours(self.number, next_round) if str(n) not in had]
        if recipients:
            state.relay[label_for(len(state.relay) + 1, recipients)] = data

    def _weighed(self, state: State, update: Update, age: int) -> Received:
        assert self.topology is not None
        sender = next(int(number) for number, did in state.roster.items() if did == update.sender)
        weight = self.topology.weights(self.number, update.round).get(sender, 0.0)
        if not self.in_step:
            weight *= staleness_weight(age, self.staleness_power, self.max_staleness)
        return Received(sender, weight, update.round, update.indices, update.values)

    def _distances(self, state: State, received: Sequence[Received]) -> dict[str, float]:
        """Where values travel, how far the neighbours are apart (section 6.4, RQ3): drift and similarity of what moved,
        on the entries that travelled, and what averaging the factors of LoRA apart loses."""
        metrics: dict[str, float] = {}
        if self.rule.kind != "values":
            return metrics
        apart, cosines, adapters = [], [], [state.adapter]
        for update in received:
            ours = state.adapter[update.indices] - self.initial[update.indices]
            theirs = update.values - self.initial[update.indices]
            lengths = float(np.linalg.norm(ours)) * float(np.linalg.norm(theirs))
            if lengths:
                cosines.append(float(ours @ theirs) / lengths)
            adapters.append(state.adapter.copy())
            adapters[-1][update.indices] = update.values
            apart.append(float(np.linalg.norm(adapters[-1] - state.adapter)))
        metrics |= self._drift(float(np.mean(apart)), state.adapter)
        if cosines:
            metrics["similarity"] = float(np.mean(cosines))
        lost = lora_merge_error(self.layout, adapters)
        return metrics if lost is None else metrics | {"merge_error": lost}

    def _drift(self, distance: float, adapter: np.ndarray) -> dict[str, float]:
        """`distance` over the distance moved since the start; an adaptive density follows it.

        Where values travel it is the distance to the neighbours' entries, else the length of what the neighbours do
        not know yet of what this agent has to tell.
        """
        moved = float(np.linalg.norm(adapter - self.initial))
        if not moved:
            return {}
        if isinstance(self.density, Adaptive):
            self.density.observe(distance / moved)
        return {"drift": distance / moved}


def _same_bits(one: np.ndarray, other: np.ndarray) -> bool:
    return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()


def _stands_for_initial(array: np.ndarray) -> bool:
    return array.dtype == np.float32 and array.shape == (0,)
