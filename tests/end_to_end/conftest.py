"""Runs in a Symphony folder of their own: through real `flwr run`, in-process, or in the process of the test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from in_this_process import run_here
from tracking_store import new_store

from symphony_fl.build.checks import check_recipe
from symphony_fl.config.recipe import load_recipe
from symphony_fl.launch.flower import run_recipe
from symphony_fl.launch.local_superlink import SuperLink, private_superlink
from symphony_fl.launch.runtime import InProcess

RunRecipe = Callable[..., dict[str, Any]]


@pytest.fixture(scope="session")
def symphony_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("symphony")
    new_store(tmp_path_factory, folder / "mlflow.db")
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


@pytest.fixture
def run_in_process(symphony_home: Path, tmp_path: Path) -> RunRecipe:
    """The same for `symphony run --in-process`: processes of ours instead of Flower's and Ray's."""

    def run_it(name: str, *overrides: str, folder: str = "here") -> dict[str, Any]:
        recipe = check_recipe(load_recipe(name, overrides))
        return InProcess().run(recipe, tmp_path / folder, print)

    return run_it


@pytest.fixture
def play(symphony_home: Path, tmp_path: Path) -> RunRecipe:
    """The same in the process of the test (`tests/support/runs/in_this_process.py`), which takes seconds."""

    def run_it(name: str, *overrides: str, folder: str = "run") -> dict[str, Any]:
        return run_here(name, overrides, tmp_path / folder)

    return run_it
