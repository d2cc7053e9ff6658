"""Agents that hand their mail to each other over QUIC: real agent processes, Flower's real grid, the real server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from devices import Devices

from symphony_fl.components import check_recipe
from symphony_fl.recipe import Recipe, load_recipe

pytest.importorskip("iroh")
AGENTS, ROUNDS = 3, 3


def recipe_of(transport: str, *overrides: str) -> Recipe:
    options = (f"agents={AGENTS}", f"rounds={ROUNDS}", "tasks.evaluate_every=2")
    return check_recipe(load_recipe("smoke", (*options, *overrides, f"exchange.transport={transport}")))


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One store for all tests: making its tables takes seconds."""
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.db'}"


@pytest.fixture(scope="module")
def devices(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Devices]:
    found = Devices(tmp_path_factory.mktemp("devices"), AGENTS)
    yield found
    found.close()


@pytest.mark.parametrize(
    "overrides",
    [(), ("exchange.encryption=edge", "exchange.rule=average", "exchange.selection=cyclic")],
    ids=["default", "encrypted"],
)
def test_no_parameter_goes_through_the_server_and_the_numbers_are_the_same(
    devices: Devices, uri: str, overrides: tuple[str, ...]
) -> None:
    name = "-".join(["run", *overrides]).replace("=", "-").replace(".", "-")
    found = {
        transport: devices.play(recipe_of(transport, *overrides), uri, f"{transport}-{name}"[:60])
        for transport in ("superlink", "iroh")
    }
    mailed, direct = (history.summary(AGENTS) for history in found.values())
    print(mailed, direct, devices.uploaded)
    assert direct["adapter_digests"] == mailed["adapter_digests"]
    assert direct["accuracy_after"] == mailed["accuracy_after"]
    assert mailed["bytes_superlink_per_agent"] > 0 and direct["bytes_superlink_per_agent"] == 0
    assert devices.uploaded == {"hello": 0, "train": 0, "evaluate": 0}
    assert direct["fallback"] == {} and direct["refused"] == mailed["refused"] == {}
