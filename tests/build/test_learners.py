"""From a recipe to a learner: what an agent trains on is what the recipe names."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

import symphony_fl.learning.skills as registry
from symphony_fl.build.learners import recipe_learner
from symphony_fl.config.recipe import load_recipe
from symphony_fl.learning.model.adapters import Policy
from symphony_fl.learning.model.base_model import Base
from symphony_fl.learning.model.tiny import initial_model, tiny_tokenizer
from symphony_fl.learning.rl.grpo import GRPO


@pytest.fixture
def rows(tmp_path: Path) -> Iterator[Path]:
    """Fifty rows in the format of Natural Questions; what they replace is back behind the test."""
    lines = [json.dumps({"question": f"what is item {n}", "answer": [f"thing {n}"]}) for n in range(50)]
    (tmp_path / "train.jsonl").write_text("\n".join(lines))
    shipped = registry.SKILLS["nq"]
    yield tmp_path
    registry.SKILLS["nq"] = shipped
    registry._INSTALLED.clear()


def test_a_process_that_has_checked_no_recipe_trains_on_its_rows(rows: Path) -> None:
    base = Base("untrained", initial_model(1).eval().requires_grad_(False), tiny_tokenizer(), b"0" * 16)
    recipe = load_recipe("nq", [f"tasks.sources=[nq={rows}:train]"])
    learner = recipe_learner(recipe, Policy(base, kind="lora", rank=2, alpha=4.0, dropout=0.0), 0, None, {})
    assert isinstance(learner, GRPO)
    tasks = learner.sampler.sample(20, round=1, step=0)
    assert all("Q: what is item" in task.prompt and task.answer.startswith("thing") for task in tasks)
