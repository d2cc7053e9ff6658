"""What a run is refused for before Flower is asked to do anything."""

from __future__ import annotations

from pathlib import Path

import pytest

from symphony_fl.config.recipe import RecipeError, load_recipe
from symphony_fl.launch.flower import run_recipe
from symphony_fl.launch.local_superlink import SuperLink

NOWHERE = SuperLink({}, "a-network")


def test_a_folder_of_another_recipe_is_left_as_it_is(tmp_path: Path) -> None:
    kept = load_recipe("smoke").to_json()
    (tmp_path / "recipe.json").write_text(kept)
    with pytest.raises(RecipeError, match="run-dir = .*: holds a run of another recipe"):
        run_recipe(NOWHERE, load_recipe("smoke", ["seed=1"]), tmp_path, print)
    assert (tmp_path / "recipe.json").read_text() == kept


def test_devices_have_an_agent_each(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="agents_per_node = 2: must be 1 on a network of devices"):
        run_recipe(NOWHERE, load_recipe("smoke", ["agents_per_node=2"]), tmp_path / "run", print)
    assert not (tmp_path / "run").exists()
