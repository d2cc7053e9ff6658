"""Options of the network: the graph of who sends to whom, and hostile agents for experiments."""

from __future__ import annotations

from typing import Annotated, Literal

from symphony_fl import registry
from symphony_fl.config.option import Chosen, ComponentOptions, Options, option


class RingOptions(ComponentOptions):
    """Two neighbours each."""

    name: Literal["ring"] = "ring"


class FullOptions(ComponentOptions):
    """Every agent is every other's neighbour."""

    name: Literal["full"] = "full"


class TorusOptions(ComponentOptions):
    """A grid whose edges wrap around."""

    name: Literal["torus"] = "torus"


class HypercubeOptions(ComponentOptions):
    """log2 N neighbours; N must be a power of two."""

    name: Literal["hypercube"] = "hypercube"


class KRegularOptions(ComponentOptions):
    """A random graph in which all agents have the same number of neighbours."""

    name: Literal["k_regular"] = "k_regular"
    degree: int = option(3, "neighbours per agent", low=1)


class FreshKRegularOptions(ComponentOptions):
    """The same, drawn anew every round."""

    name: Literal["fresh_k_regular"] = "fresh_k_regular"
    degree: int = option(3, "neighbours per agent", low=1)


class ExponentialOptions(ComponentOptions):
    """Neighbours at distances 1, 2, 4, ..."""

    name: Literal["exponential"] = "exponential"


class OnePeerExponentialOptions(ComponentOptions):
    """One neighbour a round, at distances 1, 2, 4, ... in turn."""

    name: Literal["one_peer_exponential"] = "one_peer_exponential"


class RandomPairsOptions(ComponentOptions):
    """One random partner a round."""

    name: Literal["random_pairs"] = "random_pairs"


class SmallWorldOptions(ComponentOptions):
    """A ring lattice, some of whose edges are rewired (Watts and Strogatz)."""

    name: Literal["small_world"] = "small_world"
    degree: int = option(3, "neighbours per agent before rewiring", low=1)
    probability: float = option(0.2, "rewiring probability of an edge", low=0, high=1)


class EdgesOptions(ComponentOptions):
    """An explicit graph."""

    name: Literal["edges"] = "edges"
    edges: list[list[int]] = option([], "pairs of agent numbers")


registry.add(
    "topologies",
    (
        RingOptions, FullOptions, TorusOptions, HypercubeOptions, KRegularOptions, FreshKRegularOptions,
        ExponentialOptions, OnePeerExponentialOptions, RandomPairsOptions, SmallWorldOptions, EdgesOptions,
    ),
)  # fmt: skip


class NoAttackOptions(ComponentOptions):
    """All agents are honest."""

    name: Literal["none"] = "none"


class SignFlipOptions(ComponentOptions):
    """The negative of the honest update."""

    name: Literal["sign_flip"] = "sign_flip"


class ScaleOptions(ComponentOptions):
    """The honest update, much longer."""

    name: Literal["scale"] = "scale"
    strength: float = option(100.0, "length, in honest lengths", above=0)


class RandomAttackOptions(ComponentOptions):
    """Noise."""

    name: Literal["random"] = "random"
    strength: float = option(100.0, "length, in honest lengths", above=0)


class ColludeOptions(ComponentOptions):
    """The same noise from all hostile agents."""

    name: Literal["collude"] = "collude"
    strength: float = option(100.0, "length, in honest lengths", above=0)


registry.add("attacks", (NoAttackOptions, SignFlipOptions, ScaleOptions, RandomAttackOptions, ColludeOptions))


class AdversaryOptions(Options):
    """Hostile agents, for experiments on robustness."""

    agents: list[int] = option([], "numbers of the agents that send harmful updates")
    attack: Annotated[ComponentOptions, Chosen("attacks")] = option(NoAttackOptions(), "what they send")
