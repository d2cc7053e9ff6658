"""One agent's side of the exchange without a model: density schedules, byte budgets, what is measured and kept."""

from __future__ import annotations

import numpy as np
import pytest

from clients.agents.exchange import Exchange
from clients.home.state_file import State
from symphony_fl.build.checks import check_recipe
from symphony_fl.config.recipe import load_recipe
from symphony_fl.exchange.flat import Layout

LAYOUT = Layout(names=("q.lora_A.weight", "q.lora_B.weight"), shapes=((4, 500), (500, 4)))
INITIAL = np.random.default_rng(7).standard_normal(LAYOUT.size).astype(np.float32)
ROUNDS = 12


def build(number: int, *overrides: str, arrays: dict[str, np.ndarray] | None = None) -> Exchange:
    recipe = check_recipe(load_recipe("gossip", ["agents=2", f"rounds={ROUNDS}", *overrides]))
    key = bytes([number + 1]) * 32
    return Exchange(key, number, recipe, "run", bytes(16), LAYOUT, INITIAL, arrays or {})


def moved(seed: int, size: float = 0.1) -> State:
    """An agent that has moved from the start by random steps."""
    step = np.random.default_rng(seed).standard_normal(LAYOUT.size).astype(np.float32)
    return State(adapter=INITIAL + np.float32(size) * step)


def entries(exchange: Exchange, seed: int) -> list[int]:
    counts = []
    for round in range(1, ROUNDS + 1):
        counts.append(int(exchange.seal(moved(seed), round).metrics["entries"]))
    return counts


def test_a_constant_density_sends_the_same_number_every_round() -> None:
    assert entries(build(0, "exchange.selection=topk", "exchange.selection.density=0.1"), 0) == [400] * ROUNDS


@pytest.mark.parametrize("selection", ["topk", "random", "cyclic"])
def test_decays_fall_to_their_floor_and_both_ends_agree(selection: str) -> None:
    chosen = [
        f"exchange.selection={selection}",
        "exchange.selection.density=0.5",
        "exchange.selection.schedule.floor=0.02",
    ]
    linear = entries(build(0, *chosen, "exchange.selection.schedule=linear"), 0)
    assert linear == [round(4000 * (0.5 - 0.48 * t / ROUNDS)) for t in range(1, ROUNDS + 1)]
    exponential = [
        *chosen,
        "exchange.selection.schedule=exponential",
        "exchange.selection.schedule.decay=0.5",
    ]
    sender, receiver = build(0, *exponential), build(1, *exponential)
    state = moved(1)
    state.roster = {"0": sender.did, "1": receiver.did}
    for number in range(1, ROUNDS + 1):
        sealed = sender.seal(moved(0), number)
        assert sealed.metrics["entries"] == round(4000 * max(0.02, 0.5**number * 0.5))
        state.round = number
        assert receiver.merge(state, {f"0/{number}/0": sealed.outbox["0"]}).metrics["merged"] == 1


@pytest.mark.parametrize("selection", ["topk", "cyclic"])
@pytest.mark.parametrize("coding", ["int8", "sign", "float32"])
def test_a_budget_is_kept_and_used(selection: str, coding: str) -> None:
    chosen = [f"exchange.selection={selection}", f"exchange.codec={coding}"]
    exchange = build(
        0, *chosen, "exchange.selection.schedule=budget", "exchange.selection.schedule.bytes=600"
    )
    sizes = [exchange.seal(moved(seed), seed).metrics["envelope_bytes"] for seed in range(1, ROUNDS)]
    assert max(sizes) <= 600
    # Shared indices cost nothing, so what is left over is the header's slack only.
    assert min(sizes) >= 500


def test_an_adaptive_density_rises_while_neighbours_are_apart_and_survives_in_the_home() -> None:
    chosen = [
        "exchange.selection=topk",
        "exchange.selection.schedule=adaptive",
        "exchange.selection.density=0.1",
    ]
    apart, close = build(0, *chosen), build(0, *chosen)
    for exchange, distance in ((apart, 1.0), (close, 0.001)):
        other = build(1, *chosen)
        ours = moved(0)
        ours.roster = {"0": exchange.did, "1": other.did}
        theirs = State(adapter=ours.adapter + np.float32(distance) * (moved(5).adapter - INITIAL))
        for number in range(1, 6):
            ours.round = number
            exchange.merge(ours, {f"1/{number}/0": other.seal(theirs, number).outbox["0"]})
    assert apart.seal(moved(0), 6).metrics["density"] > 0.1 > close.seal(moved(0), 6).metrics["density"]
    reopened = build(0, *chosen, arrays=apart.arrays())
    assert reopened.seal(moved(0), 7).metrics == apart.seal(moved(0), 7).metrics


def test_what_is_measured_where_values_travel() -> None:
    """Two agents that moved in opposite directions by the same length."""
    ours, theirs = build(0, "exchange.codec=float32"), build(1, "exchange.codec=float32")
    state, other = moved(3), State(adapter=2 * INITIAL - moved(3).adapter)
    state.round, state.roster = 1, {"0": ours.did, "1": theirs.did}
    metrics = ours.merge(state, {"1/1/0": theirs.seal(other, 1).outbox["0"]}).metrics
    assert metrics["drift"] == pytest.approx(2.0, rel=1e-4)
    assert metrics["similarity"] == pytest.approx(-1.0, rel=1e-4)
    a, b = INITIAL[:2000].reshape(4, 500), INITIAL[2000:].reshape(500, 4)
    step = state.adapter - INITIAL
    lost = step[2000:].reshape(500, 4) @ step[:2000].reshape(4, 500)
    assert metrics["merge_error"] == pytest.approx(
        np.linalg.norm(lost) / np.linalg.norm(b @ a + lost), rel=1e-3
    )


def test_with_error_feedback_drift_is_what_the_others_do_not_know() -> None:
    exchange = build(
        0, "exchange.rule=epidemic", "exchange.selection=topk", "exchange.selection.density=0.25"
    )
    exchange.start(INITIAL)
    state = moved(2)
    metrics = exchange.seal(state, 1).metrics
    step = np.sort(np.abs(moved(2).adapter - INITIAL))
    assert metrics["drift"] == pytest.approx(np.linalg.norm(step[:3000]) / np.linalg.norm(step), rel=0.02)


def out_of_step(rule: str, *overrides: str) -> tuple[Exchange, Exchange, State]:
    """A sender, a receiver that has done ten rounds since it last heard it, and the receiver's state."""
    chosen = ["strategy=async_gossip", "agents=2", "rounds=50", "exchange.codec=float32"]
    recipe = check_recipe(load_recipe("gossip", [*chosen, f"exchange.rule={rule}", *overrides]))
    sender, receiver = (
        Exchange(bytes([n + 1]) * 32, n, recipe, "run", bytes(16), LAYOUT, INITIAL, {}) for n in (0, 1)
    )
    state = State(adapter=INITIAL.copy(), round=10, roster={"0": sender.did, "1": receiver.did})
    return sender, receiver, state


@pytest.mark.parametrize("rule", ["average", "delta", "choco"])
def test_a_stale_update_weighs_less_and_the_next_one_counts_again(rule: str) -> None:
    sender, receiver, state = out_of_step(rule, "strategy.staleness_power=0.5")
    for exchange in (sender, receiver):
        exchange.start(INITIAL)  # both begin where all begin
    other = moved(3)
    first = sender.seal(other, 1)
    outcome = receiver.merge(state, {"0/1/0": first.outbox["0"]})
    assert outcome.metrics["staleness"] == 9
    full = (
        float(np.linalg.norm(other.adapter - INITIAL)) * {"average": 0.5, "delta": 0.5, "choco": 0.25}[rule]
    )
    gone = float(np.linalg.norm(outcome.adapter - INITIAL))
    assert gone == pytest.approx(full * 10**-0.5, rel=1e-3)
    assert state.heard == {sender.did: 10}
    second = sender.seal(moved(4), 2)
    state.round = 11
    assert receiver.merge(state, {"0/2/0": second.outbox["0"]}).metrics["staleness"] == 0


def test_beyond_the_bound_it_is_refused_counted_and_the_next_one_is_taken() -> None:
    sender, receiver, state = out_of_step("average", "strategy.max_staleness=8")
    outcome = receiver.merge(state, {"0/1/0": sender.seal(moved(3), 1).outbox["0"]})
    assert outcome.metrics == {"refused/too_stale": 1, "merged": 0.0}
    assert np.array_equal(outcome.adapter, state.adapter)
    state.round = 11
    taken = receiver.merge(state, {"0/2/0": sender.seal(moved(4), 2).outbox["0"]})
    assert taken.metrics["merged"] == 1 and taken.metrics["staleness"] == 0
    again = receiver.merge(state, {"0/1/0": sender.seal(moved(3), 1).outbox["0"]})
    assert again.metrics["refused/replayed"] == 1, "what was refused as too stale does not come in later"


def test_choco_keeps_its_copy_true_where_the_update_itself_moves_nothing() -> None:
    sender, receiver, state = out_of_step("choco", "strategy.max_staleness=8", "exchange.rule.gamma=1.0")
    for exchange in (sender, receiver):
        exchange.start(INITIAL)
    outcome = receiver.merge(state, {"0/1/0": sender.seal(moved(3), 1).outbox["0"]})
    assert np.array_equal(outcome.adapter, state.adapter)
    copy = receiver.rule.state["neighbour/0"]
    assert np.array_equal(copy, sender.rule.state["public"]) and not np.array_equal(copy, INITIAL)


def test_a_fast_agent_passes_on_what_a_slow_one_says() -> None:
    """In step an envelope is one round older with every hop; here a slow origin's rounds say nothing of its age."""
    chosen = ["strategy=async_gossip", "agents=3", "rounds=500", "exchange.rule=epidemic", "exchange.rule.hops=4",
              "topology=edges", "topology.edges=[[0,1],[1,2]]", "exchange.rule.eta=1.5"]  # fmt: skip
    recipe = check_recipe(load_recipe("gossip", chosen))
    slow, middle = (
        Exchange(bytes([n + 1]) * 32, n, recipe, "run", bytes(16), LAYOUT, INITIAL, {}) for n in (0, 1)
    )
    state = State(adapter=INITIAL.copy(), round=300, roster={"0": slow.did, "1": middle.did})
    for exchange in (slow, middle):
        exchange.start(INITIAL)
    middle.merge(state, {"0/1/0": slow.seal(moved(3), 1).outbox["0"]})
    assert list(state.relay) == ["1>2"]
