"""A traitor with a valid key, and an agent that fails, in a real run: refused by name, counted, and the run goes on."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from checkout import copy_checkout
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
    app = copy_checkout(tmp_path / "hostile-app")
    shutil.copy(Path(__file__).with_name("hostile_app.py"), app / "clients" / "hostile_app.py")
    settings = (app / "pyproject.toml").read_text()
    (app / "pyproject.toml").write_text(settings.replace("clients.client_app:app", "clients.hostile_app:app"))
    exchange = ("exchange.selection=topk", "exchange.selection.density=0.1", "exchange.codec=float32")
    recipe = check_recipe(load_recipe("smoke", ["rounds=3", *exchange]))

    with private_superlink(app) as link:
        result = run_recipe(link, recipe, tmp_path / "run", print, app)

    assert result["status"] == "completed" and result["rounds"] == 3
    assert set(result["refused"]) == REFUSED
    # Rounds 1, 2 and 3, two neighbours; agent 2 failed in round 2, so its mail was delivered again in round 3.
    assert all(count == 6 for count in result["refused"].values()), result["refused"]
    client = MlflowClient(tracking_uri=result["mlflow_uri"])
    experiment = client.get_run(result["mlflow_run"]).info.experiment_id
    children = client.search_runs([experiment], f"tags.mlflow.parentRunId = '{result['mlflow_run']}'")
    victims = [child for child in children if child.data.tags["agent"] in "12"]
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
