"""The graph G = (A, E) over which agents gossip, fixed or changing with the round, and its mixing weights.

Weights are Metropolis-Hastings on the graph of the round (Xiao, Boyd and Lall, "Distributed average consensus with
time-varying Metropolis weights", 2006): w_ij = 1 / (1 + max(d_i, d_j)) on an edge, the rest on oneself. They are
symmetric and doubly stochastic on any graph, need only the neighbours' degrees, and so preserve the network's mean.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from functools import lru_cache

import networkx as nx
import numpy as np

_HORIZON = 64
"""Rounds over which the gap of a graph drawn afresh each round is averaged."""
_MAX_ROUNDS = 1_000_000


class TopologyError(ValueError):
    """A graph that cannot be built; the message names the field, its value and what is allowed."""


class Topology:
    """A sequence of undirected graphs over agents 0 .. N-1, one per round, repeating after `period` rounds.

    Parameters
    ----------
    name : for messages and summaries.
    agents : N, at least 2.
    graph_of : the graph of a round.
    period : rounds after which the sequence repeats; None where each round is drawn afresh.
    """

    def __init__(
        self, name: str, agents: int, graph_of: Callable[[int], nx.Graph], period: int | None = 1
    ) -> None:
        self.name = name
        self.agents = agents
        self.period = period
        self._graph_of = lru_cache(maxsize=256)(graph_of)

    def graph(self, round: int) -> nx.Graph:
        """The graph of a round (do not change it)."""
        return self._graph_of(round if self.period is None else round % self.period)

    def neighbours(self, agent: int, round: int) -> tuple[int, ...]:
        """The agents with whom `agent` exchanges in this round, ascending."""
        return tuple(sorted(self.graph(round).neighbors(self._checked(agent))))

    def children(self, agent: int, origin: int, round: int) -> tuple[int, ...]:
        """The neighbours that get `origin`'s news from `agent`, on the breadth-first tree of the round's graph.

        Every agent derives the same tree, so each gets each piece of news once: N - 1 sendings per update where
        flooding needs up to twice the number of edges. Of several parents the one with the lowest number counts.
        """
        distance = nx.single_source_shortest_path_length(self.graph(round), self._checked(origin))
        if agent not in distance:
            return ()

        def parent(other: int) -> int:
            return min(n for n in self.neighbours(other, round) if distance[n] == distance[other] - 1)

        farther = (n for n in self.neighbours(agent, round) if distance[n] == distance[agent] + 1)
        return tuple(other for other in farther if parent(other) == agent)

    def weights(self, agent: int, round: int) -> dict[int, float]:
        """Metropolis-Hastings weights of `agent` in this round, its own included; they sum to 1."""
        graph = self.graph(round)
        mine = graph.degree[self._checked(agent)]
        found = {other: 1.0 / (1 + max(mine, graph.degree[other])) for other in self.neighbours(agent, round)}
        found[agent] = 1.0 - sum(found.values())
        return found

    def matrix(self, round: int) -> np.ndarray:
        """W of a round, float64 [N, N], symmetric and doubly stochastic."""
        mixing = np.zeros((self.agents, self.agents))
        for agent in range(self.agents):
            for other, weight in self.weights(agent, round).items():
                mixing[agent, other] = weight
        return mixing

    def spectral_gap(self) -> float:
        """1 minus the factor by which one round shrinks the disagreement in the worst case.

        For a fixed graph 1 - |lambda_2(W)|. For a changing one the geometric mean over a period (64 rounds where every
        round is drawn afresh), from the second singular value of the product; 1.0 where a period agrees exactly.
        """
        if self.period == 1:
            return 1.0 - _contraction(self.matrix(0))
        rounds = self.period or _HORIZON
        product = np.eye(self.agents)
        for round in range(rounds):
            product = self.matrix(round) @ product
        return float(1.0 - _contraction(product) ** (1.0 / rounds))

    def rounds_to_agreement(self, factor: float = 1000.0) -> int:
        """Rounds of pure mixing until the disagreement has shrunk by `factor` from any start.

        Raises
        ------
        TopologyError
            `factor` is not above 1, or the graphs never connect all agents.
        """
        if not factor > 1:
            raise TopologyError(f"factor={factor}: must be above 1")
        if self.period == 1:
            contraction = _contraction(self.matrix(0))
            if contraction < 1e-12:
                return 1
            return math.ceil(math.log(factor) / -math.log(contraction))
        product = np.eye(self.agents)
        for round in range(_MAX_ROUNDS):
            product = self.matrix(round) @ product
            if _contraction(product) <= 1.0 / factor:
                return round + 1
            if self.period is not None and round + 1 == self.period * 4 and not self._joined():
                break
        raise TopologyError(f"topology {self.name}: some agents never meet")

    def _joined(self) -> bool:
        union = nx.compose_all([self.graph(round) for round in range(self.period or _HORIZON)])
        return bool(nx.is_connected(union))

    def _checked(self, agent: int) -> int:
        if not 0 <= agent < self.agents:
            raise TopologyError(f"agent={agent}: must be 0 .. {self.agents - 1}")
        return agent

    def summary(self) -> str:
        """One line for the run's summary: gap and predicted rounds to agreement."""
        return (
            f"{self.name} over {self.agents} agents: spectral gap {self.spectral_gap():.4f}, "
            f"disagreement shrinks 1000x in {self.rounds_to_agreement()} rounds"
        )


def _contraction(matrix: np.ndarray) -> float:
    """The largest singular value off the direction of agreement: || W - 1 1^T / N ||_2, at most 1."""
    count = matrix.shape[0]
    value = float(np.linalg.norm(matrix - np.full((count, count), 1.0 / count), ord=2))
    return 0.0 if value < 1e-12 else min(value, 1.0)


def _torus(agents: int) -> nx.Graph:
    rows = next((n for n in range(math.isqrt(agents), 1, -1) if agents % n == 0), 1)
    if rows == 1:
        raise TopologyError(f"topology torus: agents={agents} must be a product of two numbers of at least 2")
    grid = nx.grid_2d_graph(rows, agents // rows, periodic=True)
    return nx.convert_node_labels_to_integers(grid, ordering="sorted")


def _hypercube(agents: int) -> nx.Graph:
    if agents & (agents - 1):
        raise TopologyError(f"topology hypercube: agents={agents} must be a power of two (2, 4, 8, ...)")
    return nx.convert_node_labels_to_integers(nx.hypercube_graph(agents.bit_length() - 1), ordering="sorted")


def _regular(agents: int, degree: int, seed: int) -> nx.Graph:
    """A connected random k-regular graph; drawn again (seed + 1, ...) where the draw falls apart."""
    if not 1 <= degree < agents or agents * degree % 2:
        raise TopologyError(
            f"topology k_regular: degree={degree} with agents={agents}: must be 1 .. {agents - 1}, "
            "and agents x degree even"
        )
    if degree == 1 and agents > 2:
        raise TopologyError(f"topology k_regular: degree=1 cannot join {agents} agents; at least 2 is needed")
    for attempt in range(1000):
        graph = nx.random_regular_graph(degree, agents, seed=seed * 1000 + attempt)
        if nx.is_connected(graph):
            return graph
    raise TopologyError(f"topology k_regular: no connected graph found for degree={degree}, agents={agents}")


def _exponential(agents: int) -> nx.Graph:
    """Each agent meets those at distance 1, 2, 4, ... on the circle (Assran et al. 2019, made undirected)."""
    hops = [1 << power for power in range(max(1, (agents - 1).bit_length()))]
    return nx.circulant_graph(agents, [hop for hop in hops if hop < agents])


def _one_peer(agents: int, round: int) -> nx.Graph:
    """One partner per round: even i meets i + 2^(t+1) - 1 in round t of ceil(log2 N).

    The undirected, pairwise form of the one-peer exponential graph (Ying et al. 2021, "Exponential Graph is Provably
    Efficient"; the pairing is that of Lian et al. 2018, AD-PSGD). After t rounds even i holds the mean of
    [i, i + 2^t - 1] and odd j that of [j - 2^t + 1, j], so for N a power of two log2 N rounds agree exactly.
    With odd N one agent sits out each round.
    """
    even = agents + agents % 2
    distance = (2 << (round % _one_peer_period(agents))) - 1
    graph = nx.empty_graph(agents)
    pairs = ((i, (i + distance) % even) for i in range(0, even, 2))
    graph.add_edges_from((i, j) for i, j in pairs if i < agents and j < agents)
    return graph


def _one_peer_period(agents: int) -> int:
    return max(1, (agents - 1).bit_length())


def _random_pairs(agents: int, seed: int, round: int) -> nx.Graph:
    """A fresh random matching each round (NoLoCo's pairs); with odd N one agent sits out."""
    order = list(range(agents))
    # Python's generator: its shuffle of a string seed is stable across versions, numpy's streams need not be.
    random.Random(f"symphony-fl/pairs/{seed}/{round}").shuffle(order)
    graph = nx.empty_graph(agents)
    graph.add_edges_from(zip(order[0::2], order[1::2], strict=False))
    return graph


def _small_world(agents: int, degree: int, probability: float, seed: int) -> nx.Graph:
    if not 2 <= degree < agents:
        raise TopologyError(f"topology small_world: degree={degree} must be 2 .. {agents - 1}")
    if not 0.0 <= probability <= 1.0:
        raise TopologyError(f"topology small_world: probability={probability} must be 0 .. 1")
    return nx.connected_watts_strogatz_graph(agents, degree, probability, tries=1000, seed=seed)


def _from_edges(agents: int, edges: Sequence[Sequence[int]] | None) -> nx.Graph:
    if not edges:
        raise TopologyError("topology edges: needs a list of pairs of agents, such as [[0, 1], [1, 2]]")
    graph = nx.empty_graph(agents)
    for edge in edges:
        if len(edge) != 2 or edge[0] == edge[1] or not all(0 <= end < agents for end in edge):
            raise TopologyError(
                f"topology edges: {list(edge)} must be two different agents of 0 .. {agents - 1}"
            )
        graph.add_edge(int(edge[0]), int(edge[1]))
    if not nx.is_connected(graph):
        raise TopologyError("topology edges: the graph is not connected, some agents could never learn")
    return graph


TOPOLOGIES = (
    "ring",
    "full",
    "torus",
    "hypercube",
    "k_regular",
    "fresh_k_regular",
    "exponential",
    "one_peer_exponential",
    "random_pairs",
    "small_world",
    "edges",
)
"""Every name that `build_topology` knows."""


def build_topology(
    name: str,
    agents: int,
    *,
    seed: int = 0,
    degree: int = 3,
    probability: float = 0.2,
    edges: Sequence[Sequence[int]] | None = None,
) -> Topology:
    """The topology of a run; the same arguments give the same graphs on every agent.

    Parameters
    ----------
    name : one of `TOPOLOGIES`.
    agents : N, at least 2.
    seed : of the random graphs.
    degree : of k_regular, fresh_k_regular (a new graph each round) and small_world.
    probability : of rewiring, small_world only.
    edges : pairs of agents, for `edges` only.

    Raises
    ------
    TopologyError
        Unknown name, or arguments that give no connected graph.
    """
    if name not in TOPOLOGIES:
        raise TopologyError(f"topology={name!r}: must be one of {', '.join(TOPOLOGIES)}")
    if agents < 2:
        raise TopologyError(f"agents={agents}: gossip needs at least 2")
    if name == "one_peer_exponential":
        return Topology(name, agents, lambda round: _one_peer(agents, round), _one_peer_period(agents))
    if name == "random_pairs":
        return Topology(name, agents, lambda round: _random_pairs(agents, seed, round), None)
    if name == "fresh_k_regular":
        _regular(agents, degree, seed)  # refuse wrong arguments now, not in some later round
        return Topology(name, agents, lambda round: _regular(agents, degree, seed * 1_000_003 + round), None)
    fixed: dict[str, Callable[[], nx.Graph]] = {
        "ring": lambda: nx.cycle_graph(agents),
        "full": lambda: nx.complete_graph(agents),
        "torus": lambda: _torus(agents),
        "hypercube": lambda: _hypercube(agents),
        "k_regular": lambda: _regular(agents, degree, seed),
        "exponential": lambda: _exponential(agents),
        "small_world": lambda: _small_world(agents, degree, probability, seed),
        "edges": lambda: _from_edges(agents, edges),
    }
    graph = fixed[name]()
    return Topology(name, agents, lambda round: graph)
