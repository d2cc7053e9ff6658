"""Agents that hand their mail to each other over QUIC: real agent processes, Flower's real grid, the real server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from device import greeting
from devices_on_grid import Devices
from tracking_store import new_store

from clients.service.service import Service
from symphony_fl.build.checks import check_recipe
from symphony_fl.cli.main import main
from symphony_fl.config.options import Recipe
from symphony_fl.config.recipe import RecipeError, load_recipe

pytest.importorskip("iroh")
AGENTS, ROUNDS = 4, 3


def recipe_of(transport: str, *overrides: str) -> Recipe:
    options = (f"agents={AGENTS}", f"rounds={ROUNDS}", "tasks.evaluate_every=2")
    return check_recipe(load_recipe("smoke", (*options, *overrides, f"exchange.transport={transport}")))


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One store for all tests."""
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    new_store(tmp_path_factory, path)
    return f"sqlite:///{path}"


@pytest.fixture(scope="module")
def devices(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Devices]:
    found = Devices(tmp_path_factory.mktemp("devices"), AGENTS)
    yield found
    found.close()


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        pytest.param(
            ("exchange.encryption=edge", "exchange.rule=average", "exchange.selection=cyclic"),
            marks=pytest.mark.slow,
        ),
        pytest.param(
            ("topology=random_pairs", "exchange.rule=average", "exchange.selection=cyclic"),
            marks=pytest.mark.slow,
        ),
    ],
    ids=["default", "encrypted", "changing"],
)
def test_no_parameter_goes_through_the_server_and_the_numbers_are_the_same(
    devices: Devices, uri: str, overrides: tuple[str, ...], request: pytest.FixtureRequest
) -> None:
    name = request.node.callspec.id
    runs = {
        transport: devices.play(recipe_of(transport, *overrides), uri, f"{name}-{transport}")
        for transport in ("superlink", "iroh")
    }
    assert devices.uploaded == {"hello": 0, "train": 0, "evaluate": 0}, "of the second run"
    mailed, direct = (history.summary(AGENTS) for history in runs.values())
    assert direct["adapter_digests"] == mailed["adapter_digests"] and len(mailed["adapter_digests"]) == AGENTS
    assert direct["paired"] == mailed["paired"]
    assert mailed["bytes_superlink_per_agent"] > 0 and direct["bytes_superlink_per_agent"] == 0
    assert direct["fallback"] == {} and direct["refused"] == mailed["refused"] == {}
    edges = [metric for i in range(AGENTS) for j in range(AGENTS) for metric in [f"bytes/edge/{i}-{j}"]]
    for metric in ("bytes/sent", "bytes/received", *edges):
        assert runs["iroh"].total(metric) == runs["superlink"].total(metric), metric
    assert runs["iroh"].total("bytes/direct") == runs["iroh"].total("bytes/received")


@pytest.mark.slow
def test_mail_for_an_agent_that_cannot_be_reached_goes_by_the_mailbox_and_this_is_said(
    devices: Devices, uri: str
) -> None:
    """Agent 1's endpoint is closed whenever the others have mail for it; what it has for them goes directly."""
    overrides = ("rounds=2", "tasks.evaluate_every=2")
    mailed = devices.play(recipe_of("superlink", *overrides), uri, "mailed")
    devices.mortal = {1}
    found = devices.play(recipe_of("iroh", *overrides), uri, "fallen")
    devices.mortal = set()
    summary = found.summary(AGENTS)
    assert summary["adapter_digests"] == mailed.summary(AGENTS)["adapter_digests"], (
        "nothing lost, nothing twice"
    )
    assert summary["fallback"] == {"unreachable": 4} and summary["refused"] == {}
    direct, received = found.total("bytes/direct"), found.total("bytes/received")
    assert direct[1] == 0 < received[1], "all of agent 1's mail came by the mailbox"
    assert all(direct[number] == received[number] > 0 for number in (0, 2, 3))
    assert received == mailed.total("bytes/received")
    for number in (0, 2):  # its neighbours
        assert "mail for agent 1 goes by the mailbox: unreachable" in devices.said(number)


def test_what_only_devices_can_do_is_refused_elsewhere(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(RecipeError, match="must be 'superlink' in simulation"):
        Service.in_process(0, tmp_path / "home").answer("hello", greeting(recipe_of("iroh")))
    assert not (tmp_path / "home").exists()
    assert main(["run", "smoke", "exchange.transport=iroh"]) == 2
    assert "must be 'superlink' on one machine alone" in capsys.readouterr().err
    for override in ("agents_per_node=2", "strategy=isolated", "strategy=fedavg", "strategy=async_gossip"):
        with pytest.raises(RecipeError, match="exchange.transport = 'iroh'"):
            recipe_of("iroh", override)
    recipe_of("iroh", "strategy=async_gossip", "clock=wall")
