"""A trainer and its workers, with real homes and the real strategy in one process: same numbers however the work is
dealt, exact lag, resume after a stop anywhere, and a worker that lies in every way it can."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from centre import Network, play, whole

from clients.agents.trainer import Trainer
from clients.agents.worker import Worker
from clients.home.home import Home
from clients.protocol.report import AgentError
from examples import THOROUGH
from symphony_fl.build.checks import check_recipe
from symphony_fl.config.options import Recipe
from symphony_fl.config.recipe import load_recipe
from symphony_fl.exchange.flat import digest
from symphony_fl.exchange.messages.rollouts import Form, Rollouts, open_rollouts, seal_rollouts
from symphony_fl.identity.did_key import generate_private_key
from symphony_fl.metrics.history import History

SMALL = (
    "rounds=4", "learner.prompts=8", "learner.samples=4", "tasks.held_out=2", "tasks.evaluate_every=4",
    "tasks.skills=[reverse,max,add]", "tracking.agents=false", "agents=5",
)  # fmt: skip


def small(name: str, *overrides: str) -> Recipe:
    return check_recipe(load_recipe(name, (*SMALL, *overrides)))


def adapters(network: Network) -> list[np.ndarray]:
    states = [Home(network.folder / "agents" / str(n)).load() for n in range(network.recipe.agents)]
    return [state.adapter for state in states if state is not None]


def trained(history: History, name: str) -> list[float | None]:
    """A metric of the trainer's steps."""
    return [e.metrics.get(name) for e in history.events("train") if e.agent == 0]


def test_one_server_and_workers_without_lag_give_the_same_bits(tmp_path: Path) -> None:
    short = (*SMALL, "rounds=3", "tasks.evaluate_every=3")
    alone, _ = whole(tmp_path / "alone", "sync_centralized", *short, "agents=1")
    for agents in (3, 5):
        overrides = (*short, "strategy.lag=0", f"agents={agents}")
        shared, history = whole(tmp_path / str(agents), "async1_centralized", *overrides)
        assert digest(adapters(shared)[0]) == digest(adapters(alone)[0])
        assert history.refused() == {} and trained(history, "staleness") == [0, 0, 0]


@pytest.mark.parametrize(("lag", "fanout"), [(1, 0), (2, 2), pytest.param(3, 1, marks=pytest.mark.slow)])
def test_rollouts_are_exactly_as_old_as_the_recipe_says(tmp_path: Path, lag: int, fanout: int) -> None:
    overrides = (*SMALL, "rounds=6", f"strategy.lag={lag}", f"strategy.fanout={fanout}", "agents=4")
    _network, history = whole(tmp_path, "async2_decentralized", *overrides, "strategy.momentum=0.3")
    assert trained(history, "staleness") == [min(step, lag) for step in range(6)]
    assert trained(history, "rollouts/missing") == [0] * 6 and history.refused() == {}
    assert max(v for v in trained(history, "recomputed") if v is not None) < 1e-4
    versions = [e.metrics["version"] for e in history.events("train") if e.agent == 3]
    assert versions == [max(0, step - lag) for step in range(6)]


def test_where_links_are_slow_changes_are_fresher_than_weights(tmp_path: Path) -> None:
    """6.3's "improves rollout freshness", by the same link of 16 kB a step."""
    found = {}
    for name in ("async2_full", "async2_decentralized"):
        overrides = (*SMALL, "rounds=12", "agents=2", "strategy.lag=1", "strategy.bandwidth=16000")
        more = ("strategy.parts=1", "strategy.slack=12")
        _, history = whole(tmp_path / name, name, *overrides, *more)
        found[name] = trained(history, "staleness")
        assert history.refused() == {}
    assert found["async2_decentralized"] == [min(step, 1) for step in range(12)]
    assert max(v for v in found["async2_full"] if v is not None) >= 6


def test_a_run_that_stops_anywhere_goes_on_with_the_same_bits(tmp_path: Path) -> None:
    """Every message's answer may be the last that was given: homes are opened anew, mail is posted again."""
    recipe = small("async2_decentralized", "rounds=6", "agents=4")
    calm = Network(recipe, tmp_path / "calm")
    calm.folder.mkdir()
    play(calm)
    calm.close()
    folder = tmp_path / "stopped"
    folder.mkdir()

    class Stopped(Exception):
        pass

    for last in (3, 4, 5, 6, 7, 9, 40) if THOROUGH else (4, 7, 40):
        network = Network(recipe, folder, lasting=False)
        answered = [0]

        def stop(
            agent: int,
            step: int,
            outbox: dict[str, bytes],
            answered: list[int] = answered,
            last: int = last,
        ) -> dict[str, bytes]:
            answered[0] += 1
            if answered[0] == last:
                raise Stopped
            return outbox

        network.tamper = stop
        try:
            play(network)
        except Stopped:
            continue
        finally:
            network.close()
    assert [digest(a) for a in adapters(network)] == [digest(a) for a in adapters(calm)]


def test_a_worker_that_is_gone_costs_its_share_and_no_more(tmp_path: Path) -> None:
    network = Network(small("async2_decentralized", "rounds=6"), tmp_path)
    network.tamper = lambda agent, step, outbox: (network.away.add(1), outbox)[1] if step == 3 else outbox
    history = play(network)
    network.close()
    assert trained(history, "rollouts/missing") == [0, 0, 0, 0.25, 0.25, 0.25]
    ages = trained(history, "staleness")
    assert ages[-1] == 2, "the workers below the one that is gone still get weights, from the one above"


Lie = Callable[[Rollouts, Form, bytes], tuple[Rollouts, Form, bytes]]


def _dearer(r: Rollouts) -> np.ndarray:
    found = r.logprobs.copy()
    found[0] -= 0.5
    return found


def _endless(r: Rollouts, end: int) -> np.ndarray:
    found = r.ids.copy()
    found[found == end] = end + 1
    return found


def _favourite(r: Rollouts) -> Rollouts:
    """One completion of a task in the place of another: true tokens, true log-probabilities, no chance."""
    ends = np.concatenate([[0], np.cumsum(r.lengths)])
    rows = [slice(int(a), int(b)) for a, b in itertools.pairwise(ends)]
    kept, gone = next(
        (a, b)
        for a in range(len(rows))
        for b in range(len(rows))
        if a // 4 == b // 4 and not np.array_equal(r.ids[rows[a]], r.ids[rows[b]])
    )
    order = [kept if row == gone else row for row in range(len(rows))]
    return replace(
        r,
        lengths=r.lengths[order],
        ids=np.concatenate([r.ids[rows[row]] for row in order]),
        logprobs=np.concatenate([r.logprobs[rows[row]] for row in order]),
    )


LIES: dict[str, Lie] = {
    "wrong_logprobs": lambda r, f, k: (replace(r, logprobs=_dearer(r)), f, k),
    "not_finite": lambda r, f, k: (replace(r, logprobs=r.logprobs * np.float32("nan")), f, k),
    "bad_tokens": lambda r, f, k: (replace(r, ids=_endless(r, f.end)), f, k),
    "not_sampled": lambda r, f, k: (_favourite(r), f, k),
    "wrong_policy": lambda r, f, k: (replace(r, policy=b"\0" * 16), f, k),
    "wrong_task": lambda r, f, k: (replace(r, part=0), f, k),
    "too_stale": lambda r, f, k: (replace(r, step=r.step - 1), f, k),
    "from_the_future": lambda r, f, k: (replace(r, step=r.step + 1), f, k),
    "unknown_sender": lambda r, f, k: (r, f, generate_private_key()),
    "wrong_run": lambda r, f, k: (r, replace(f, run=b"X" * 16), k),
}


@pytest.mark.parametrize("name", sorted(LIES))
def test_a_lie_is_refused_by_its_name_and_the_run_goes_on(tmp_path: Path, name: str) -> None:
    network = Network(small("async1_centralized", "rounds=3"), tmp_path)
    liar = Home(tmp_path / "agents" / "2")

    def lie(agent: int, step: int, outbox: dict[str, bytes]) -> dict[str, bytes]:
        if agent != 2 or step != 2:
            return outbox
        form = _form(network)
        did = network.services[2].agent.did  # type: ignore[union-attr]
        ((label, data),) = outbox.items()
        _, honest = open_rollouts(data, form, [did])
        told, form, key = LIES[name](honest, form, liar.key())
        return {label: seal_rollouts(form, key, told)}

    network.tamper = lie
    history = play(network)
    network.close()
    assert history.refused() == {name: 1}
    assert trained(history, "rollouts/missing") == [0, 0.25, 0]
    assert trained(history, "rollouts/refused") == [0, 0.25, 0]
    assert history.rounds("evaluate") == [0, 3]


def test_rollouts_brought_twice_count_once_and_noise_is_noise(tmp_path: Path) -> None:
    network = Network(small("async1_centralized", "rounds=3"), tmp_path)

    def more(agent: int, step: int, outbox: dict[str, bytes]) -> dict[str, bytes]:
        if agent != 2 or step != 2:
            return outbox
        ((label, data),) = outbox.items()
        return {label: data, "7>0": data, "8>0": b"noise" * 40, "9": b"to nobody: a leaf has no one below"}

    network.tamper = more
    history = play(network)
    network.close()
    assert history.refused() == {"malformed": 1, "replayed": 1}
    assert trained(history, "rollouts/missing") == [0, 0, 0]


def test_forged_weights_are_not_taken_nor_handed_on(tmp_path: Path) -> None:
    """Worker 1 sends those below it something else than the trainer's."""
    network = Network(small("async2_decentralized", "rounds=7"), tmp_path)

    def forge(agent: int, step: int, outbox: dict[str, bytes]) -> dict[str, bytes]:
        if agent != 1:
            return outbox
        return {k: v if ">" in k else v[:-1] + bytes([v[-1] ^ 1]) for k, v in outbox.items()}

    network.tamper = forge
    history = play(network)
    network.close()
    assert set(history.refused()) == {"bad_signature"}
    assert max(v for v in trained(history, "recomputed") if v is not None) < 1e-4
    versions = {n: [e.metrics["version"] for e in history.events("train") if e.agent == n] for n in (1, 3)}
    assert versions[1] == [0, 0, 0, 1, 2, 3, 4]
    assert versions[3] == [0, 0, 0, 0, 0, 3, 4], (
        "the one below it stays at what it has, and is served by the server"
    )


@pytest.mark.parametrize(
    "name", ["async2_decentralized", pytest.param("async2_full", marks=pytest.mark.slow)]
)
def test_who_hands_nothing_on_starves_nobody(tmp_path: Path, name: str) -> None:
    """Worker 1 keeps the weights to itself: those below it get them from the server, and their rollouts hold."""
    network = Network(small(name, "rounds=9"), tmp_path)
    network.tamper = lambda agent, step, outbox: (
        {k: v for k, v in outbox.items() if ">" in k} if agent == 1 else outbox
    )
    history = play(network)
    network.close()
    assert trained(history, "rollouts/missing") == [0] * 9 and history.refused() == {}
    ages = [e.round - 1 - e.metrics["version"] for e in history.events("train") if e.agent == 3]
    assert max(ages) <= 2 + 2, "the slack of what is taken"


def test_a_worker_cannot_choose_among_many_weights(tmp_path: Path) -> None:
    """It samples rightly, with the weights it began with: refused as soon as these are too old."""
    network = Network(small("async1_centralized", "rounds=8"), tmp_path)
    first: dict[str, np.ndarray] = {}

    def keep(agent: int, step: int, outbox: dict[str, bytes]) -> dict[str, bytes]:
        worker = network.services[2].agent
        if agent != 2 or not isinstance(worker, Worker):
            return outbox
        copy = worker.broadcast.copy
        honest = copy.policy, copy.version
        copy.policy, copy.version = first.setdefault("policy", copy.policy.copy()), 0
        worker.policy.set(copy.policy)
        ((label, _),) = outbox.items()
        data, _ = worker._sample(step, 1, 0)
        copy.policy, copy.version = honest
        return {label: data}

    network.tamper = keep
    history = play(network)
    network.close()
    assert trained(history, "rollouts/missing") == [0, 0, 0, 0, 0.25, 0.25, 0.25, 0.25]
    assert history.refused() == {"too_stale": 4}


def test_where_nothing_holds_nothing_is_learnt_and_no_reward_is_booked(tmp_path: Path) -> None:
    network = Network(small("async1_centralized", "rounds=3"), tmp_path)
    network.tamper = lambda agent, step, outbox: {} if agent and step == 2 else outbox
    history = play(network)
    network.close()
    assert trained(history, "rollouts/missing") == [0, 1, 0]
    assert [value is None for value in trained(history, "reward/local")] == [False, True, False]


def test_the_trainer_does_not_skip_and_hands_out_no_adapter(tmp_path: Path) -> None:
    recipe = small("async1_centralized")
    trainer = Trainer(Home(tmp_path / "0"), 0, recipe, "a-run")
    with pytest.raises(AgentError, match="step 2 was asked for, step 1 is next"):
        trainer.train(2)
    for resident in (trainer, Worker(Home(tmp_path / "1"), 1, recipe, "a-run")):
        with pytest.raises(AgentError):
            resident.give()
        with pytest.raises(AgentError):
            resident.adopt(resident.state.adapter)


def _form(network: Network) -> Form:
    agent = network.services[2].agent
    assert isinstance(agent, Worker)
    return agent.form
