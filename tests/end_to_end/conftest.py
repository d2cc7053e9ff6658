"""Real Flower runs: one SuperLink for the session, runs and tracking in a folder of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from symphony_fl.build.checks import check_recipe
from symphony_fl.config.recipe import load_recipe
from symphony_fl.launch.flower import run_recipe
from symphony_fl.launch.local_superlink import SuperLink, private_superlink

RunRecipe = Callable[..., dict[str, Any]]


@pytest.fixture(scope="session")
def symphony_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("symphony")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SYMPHONY_HOME", str(folder))
        yield folder


@pytest.fixture(scope="session")
def superlink(symphony_home: Path) -> Iterator[SuperLink]:
    with private_superlink() as link:
        yield link


@pytest.fixture
def run(superlink: SuperLink, tmp_path: Path) -> RunRecipe:
    """run(recipe, *overrides) -> the result of a real `flwr run` in a fresh folder."""

    def run_it(name: str, *overrides: str, folder: str = "run") -> dict[str, Any]:
        recipe = check_recipe(load_recipe(name, overrides))
        return run_recipe(superlink, recipe, tmp_path / folder, print)

    return run_it
