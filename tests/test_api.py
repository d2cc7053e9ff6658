"""The public API: light to import, the same recipes and refusals as the command's."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import symphony_fl as sf


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = "import sys, symphony_fl; print(sorted({'torch', 'pydantic', 'omegaconf', 'numpy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_public_name_is_there() -> None:
    for name in sf.__all__:
        assert getattr(sf, name) is not None
    assert set(sf.__all__) <= set(dir(sf))
    with pytest.raises(AttributeError, match="no attribute 'runs'"):
        sf.runs  # noqa: B018


def test_overrides_as_texts_or_as_a_mapping() -> None:
    texts = sf.load_recipe("default", ["rounds=3", "exchange.rule.keep=true", "tasks.skills=[sort,add]"])
    mapping = sf.load_recipe(
        "default", {"rounds": 3, "exchange.rule.keep": True, "tasks.skills": ["sort", "add"]}
    )
    assert texts == mapping and texts.rounds == 3


def test_refusals_come_before_anything_is_started(tmp_path: Path) -> None:
    with pytest.raises(sf.RecipeError, match="did you mean 'default'"):
        sf.run("defalt")
    with pytest.raises(sf.RecipeError, match="agents = 1: must be at least 2"):
        sf.run("default", agents=1)
    with pytest.raises(sf.RecipeError, match="must be given to load_recipe"):
        sf.run(sf.load_recipe("smoke"), rounds=2)
    (tmp_path / "recipe.json").write_text("{}")
    with pytest.raises(sf.RecipeError, match="holds a run already"):
        sf.run("smoke", folder=tmp_path)
    with pytest.raises(sf.RecipeError, match="holds no run"):
        sf.resume(tmp_path / "nothing")
    with pytest.raises(sf.RecipeError, match="rounds = 0"):
        sf.compare(["smoke", "default"], {"rounds": 0})
