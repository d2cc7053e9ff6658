"""Killed before any fsync or rename, an agent ends its message with the bits it would have had."""

from __future__ import annotations

from pathlib import Path

import pytest
from centre import Network, play
from killing import Killing

from clients.home.home import Home
from symphony_fl.build.checks import check_recipe
from symphony_fl.config.recipe import load_recipe
from symphony_fl.exchange.flat import digest

SMALL = (
    "agents=2", "rounds=2", "learner.steps=1", "learner.prompts=2", "tasks.held_out=1", "tasks.evaluate_every=1",
    "tracking.agents=false",
)  # fmt: skip
CENTRALIZED = ("async2_decentralized", ("agents=3", "learner.prompts=4", "strategy.momentum=0.3"))
RUNS = {
    "given_tasks": ("given_tasks", ()),
    "default": ("default", ("learner.prompts=4",)),
    "gossip": ("gossip", ()),
    "choco": ("gossip", ("exchange.rule=choco",)),
    "clipped delta": ("gossip", ("exchange.rule=delta", "exchange.robust=clip")),
    "encrypted": ("given_tasks", ("exchange.encryption=edge",)),
    "async_gossip": ("async_gossip", ("clock.speeds=[rtx4090,m2]",)),
    "selfplay": ("selfplay", ("learner.prompts=4",)),
    "worker": CENTRALIZED,
    "trainer": CENTRALIZED,
}
RANDOM = {"encrypted": ("outbox",)}  # what is not the same bits twice: parcels have fresh keys


@pytest.mark.parametrize(
    "run", [run if run == "given_tasks" else pytest.param(run, marks=pytest.mark.slow) for run in RUNS]
)
def test_killed_at_any_write_it_ends_with_the_same_bits(tmp_path: Path, run: str) -> None:
    name, more = RUNS[run]
    recipe = check_recipe(load_recipe(name, (*SMALL, *more)))
    killing, calm = (
        Killing(recipe, tmp_path / "killed", int(run != "trainer")),
        Network(recipe, tmp_path / "calm"),
    )
    for network in (calm, killing):
        network.folder.mkdir()
        play(network)
        network.close()
    different = [found for found in killing.different if found[2] not in RANDOM.get(run, ())]
    assert different == []
    rounds = 1 if run == "async_gossip" else 2  # its slower agent does one in the time of four
    assert killing.kills["train"] >= 5 * rounds, "each round is a commit: three fsyncs and two renames"
    assert ("evaluate" in killing.kills) == (run != "worker"), "evaluations bring mail, also to the trainer"
    assert _digests(killing) == _digests(calm)


def _digests(network: Network) -> list[bytes]:
    states = [Home(network.folder / "agents" / str(n)).load() for n in range(network.recipe.agents)]
    return [digest(state.adapter) for state in states if state is not None]
