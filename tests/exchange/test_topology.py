from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from examples import examples
from symphony_fl.exchange.topology import TOPOLOGIES, TopologyError, build_topology

_PATH = [[0, 1], [1, 2], [2, 3]]


@pytest.mark.parametrize("name", TOPOLOGIES)
@pytest.mark.parametrize("round", [0, 1, 5])
def test_weights_are_doubly_stochastic_and_symmetric(name: str, round: int) -> None:
    count = 4 if name == "edges" else 16
    topology = build_topology(name, count, edges=_PATH)
    matrix = topology.matrix(round)
    assert np.allclose(matrix.sum(0), 1) and np.allclose(matrix.sum(1), 1)
    assert np.array_equal(matrix, matrix.T) and (matrix >= -1e-12).all()
    for agent in range(count):
        assert set(topology.weights(agent, round)) == {agent, *topology.neighbours(agent, round)}


@pytest.mark.parametrize(
    ("name", "agents", "rounds"),
    [("ring", 16, 133), ("torus", 16, 14), ("ring", 64, 2149), ("hypercube", 64, 21), ("full", 9, 1)],
)
def test_rounds_to_agreement_as_computed_by_hand(name: str, agents: int, rounds: int) -> None:
    assert build_topology(name, agents).rounds_to_agreement() == rounds


@pytest.mark.parametrize("agents", [2, 4, 8, 16, 32])
def test_one_peer_exponential_agrees_exactly_after_log2_rounds(agents: int) -> None:
    topology = build_topology("one_peer_exponential", agents)
    product = np.eye(agents)
    for round in range(agents.bit_length() - 1):
        assert all(len(topology.neighbours(agent, round)) == 1 for agent in range(agents))
        product = topology.matrix(round) @ product
    assert np.allclose(product, 1 / agents)
    assert topology.rounds_to_agreement() == agents.bit_length() - 1
    assert topology.spectral_gap() == 1.0


@pytest.mark.parametrize("name", TOPOLOGIES)
@given(
    st.sampled_from([4, 8, 16]) | st.integers(2, 20),
    st.integers(0, 5),
    st.sampled_from([2, 3]) | st.integers(0, 3),
)
@example(16, 0, 3)
@examples(15)
def test_prediction_holds_when_mixing(name: str, agents: int, seed: int, degree: int) -> None:
    try:
        topology = build_topology(
            name, agents, seed=seed, degree=degree, edges=[[n, n + 1] for n in range(agents - 1)]
        )
    except TopologyError:
        assert (agents, degree) != (16, 3), "every graph can be built of these"
        return
    values = np.random.default_rng(seed).standard_normal(agents)
    start = values - values.mean()
    mixed = values
    for round in range(topology.rounds_to_agreement(100)):
        mixed = topology.matrix(round) @ mixed
    assert mixed.mean() == pytest.approx(values.mean(), abs=1e-9)
    assert np.linalg.norm(mixed - values.mean()) <= np.linalg.norm(start) / 100 + 1e-9


def test_the_same_arguments_give_the_same_graphs() -> None:
    for name in ("k_regular", "fresh_k_regular", "small_world", "random_pairs"):
        one, two = (build_topology(name, 12, seed=3, degree=4) for _ in range(2))
        assert all(np.array_equal(one.matrix(round), two.matrix(round)) for round in range(4))
    fresh = build_topology("fresh_k_regular", 12, degree=3)
    assert not np.array_equal(fresh.matrix(0), fresh.matrix(1))


@pytest.mark.parametrize(
    ("name", "agents", "edges", "words"),
    [
        ("rings", 4, None, "rings.*ring"),
        ("ring", 1, None, "agents=1"),
        ("hypercube", 6, None, "agents=6.*power of two"),
        ("torus", 7, None, "agents=7"),
        ("k_regular", 5, None, "degree=3.*even"),
        ("edges", 4, [[0, 1], [2, 3]], "not connected"),
        ("edges", 4, [[0, 9]], "0 .. 3"),
        ("edges", 4, [], "list of pairs"),
    ],
)
def test_errors_name_field_value_and_what_is_allowed(
    name: str, agents: int, edges: list[list[int]] | None, words: str
) -> None:
    with pytest.raises(TopologyError, match=words):
        build_topology(name, agents, edges=edges)


@pytest.mark.parametrize(
    "name", ["ring", "full", "torus", "hypercube", "k_regular", "exponential", "small_world"]
)
def test_news_reaches_every_agent_exactly_once_on_the_tree(name: str) -> None:
    topology = build_topology(name, 16)
    for origin in range(16):
        heard, told = [origin], [origin]
        while told:
            told = [child for agent in told for child in topology.children(agent, origin, 0)]
            heard += told
        assert sorted(heard) == list(range(16))
