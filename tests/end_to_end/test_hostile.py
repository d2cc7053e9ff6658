"""A traitor with a valid key, and an agent that fails: refused by name, counted, and the run goes on."""

from __future__ import annotations

from pathlib import Path

import pytest
from hostile_agent import agents_with_a_traitor
from in_this_process import run_here
from mlflow import MlflowClient

from symphony_fl.build.checks import check_recipe
from symphony_fl.config.recipe import load_recipe
from symphony_fl.launch.flower import run_recipe
from symphony_fl.launch.local_superlink import SuperLink, private_superlink

REFUSED = {
    "truncated", "oversized", "replayed", "bad_signature", "malformed", "wrong_run", "wrong_layout", "bomb",
    "not_finite", "bad_indices",
}  # fmt: skip


def test_hostile_envelopes_are_refused_by_name_and_the_run_completes(
    symphony_home: Path, tmp_path: Path
) -> None:
    exchange = ("exchange.selection=topk", "exchange.selection.density=0.1", "exchange.codec=float32")
    folder = tmp_path / "run"
    result = run_here("smoke", ["rounds=3", *exchange], folder, agents_with_a_traitor(folder))

    assert result["status"] == "completed" and result["rounds"] == 3
    assert set(result["refused"]) == REFUSED
    # Rounds 1, 2 and 3, two neighbours; agent 2 failed in round 2, so its mail was delivered again in round 3.
    assert all(count == 6 for count in result["refused"].values()), result["refused"]
    client = MlflowClient(tracking_uri=result["mlflow_uri"])
    experiment = client.get_run(result["mlflow_run"]).info.experiment_id
    children = client.search_runs([experiment], f"tags.mlflow.parentRunId = '{result['mlflow_run']}'")
    victims = [child for child in children if child.data.tags["agent"] in "12"]
    assert len(victims) == 2
    for child in victims:
        assert {f"refused/{name}" for name in REFUSED} <= child.data.metrics.keys()


@pytest.mark.slow
def test_another_checkout_in_the_superlinks_folder_is_not_run(symphony_home: Path, tmp_path: Path) -> None:
    """Simulated ClientApps look for modules in the SuperLink's working folder first; ours must not."""
    other = tmp_path / "other-checkout"
    for package in ("symphony_fl", "clients", "strategies"):
        (other / package).mkdir(parents=True)
        (other / package / "__init__.py").write_text("raise RuntimeError('the wrong code runs')\n")
    recipe = check_recipe(load_recipe("smoke", ["rounds=1"]))
    link: SuperLink
    with private_superlink(other) as link:
        assert run_recipe(link, recipe, tmp_path / "run", print)["status"] == "completed"
