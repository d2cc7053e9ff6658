"""Runs out of a tracking store, as `symphony compare` would have told them: nothing is run, no run's folder is read."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from symphony_fl.config.explain import did_you_mean
from symphony_fl.config.recipe import RecipeError
from symphony_fl.tracking.mlflow_store import StoredRun, find_runs
from symphony_fl.tracking.tracker import RESULTS

STATUS = {"FINISHED": "completed", "RUNNING": "running"}
BESIDE = ("name", "description", "seed", "tracking.", "limits.")
"""Keys of a recipe by which runs of the same experiment may differ."""

Row = dict[str, Any]


def stored_rows(
    uri: str,
    experiment: str,
    recipes: Collection[str] = (),
    settings: Sequence[str] = (),
    seeds: Collection[int] = (),
) -> list[Row]:
    """One row per recipe, setting and seed, the newest run of each, in the order in which they began; keys as in a
    run's `result.json`, and `id`, MLflow's.

    ``recipes`` and ``seeds``: those runs only, all where there are none. ``settings`` are key=value, of a recipe or
    of a run's tags. Where runs of one recipe differ by more than their seed, `recipe` says by what.

    Raises
    ------
    RecipeError
        Nothing is found, or a setting is none.
    StoreAway
        The store cannot be read.
    """
    runs = find_runs(uri, experiment)
    known = {run.tags.get("recipe", "") for run in runs}
    for name in recipes:
        if name not in known:
            raise RecipeError(
                f"recipe {name!r}: no run of it in experiment {experiment!r}{did_you_mean(name, known)}"
            )
    chosen = [
        run
        for run in runs
        if (not recipes or run.tags.get("recipe") in recipes)
        and (not seeds or int(run.tags.get("seed", "-1")) in seeds)
        and all(_has(run, setting) for setting in settings)
    ]
    if not chosen:
        raise RecipeError(f"{uri}: no such run in experiment {experiment!r}")
    newest = {(_settings(run), run.tags["recipe"], run.tags["seed"]): run for run in chosen}
    labels = _labels(list(newest.values()))
    return [row_of(run, labels[run.id]) for run in newest.values()]


def row_of(run: StoredRun, label: str) -> Row:
    """The run's result, as far as a comparison needs it."""
    figures = {name: run.metrics.get(f"result/{name}") for name in RESULTS}
    status = STATUS.get(run.status, "failed")
    if status == "completed" and figures["accuracy_after"] is None:
        status = "no result"
    return {
        "recipe": label,
        "seed": int(run.tags["seed"]),
        "status": status,
        **figures,
        "strategy": run.tags.get("strategy", ""),
        "recipe_digest": run.tags.get("recipe.digest", ""),
        "run": run.name,
        "id": run.id,
    } | ({"runtime": run.tags["runtime"]} if "runtime" in run.tags else {})


def _has(run: StoredRun, setting: str) -> bool:
    key, mark, value = setting.partition("=")
    if not mark or not key:
        raise RecipeError(f"setting {setting!r}: must look like key=value")
    return value in (run.params.get(key), run.tags.get(key))


def _settings(run: StoredRun) -> frozenset[tuple[str, str]]:
    """All that the run's recipe says, but for what may differ."""
    return frozenset(item for item in run.params.items() if not item[0].startswith(BESIDE))


def _labels(runs: Sequence[StoredRun]) -> dict[str, str]:
    """Run -> its recipe's name, and in what its settings differ from those of other runs of that recipe."""
    labels = {}
    for run in runs:
        alike = [_settings(other) for other in runs if other.tags["recipe"] == run.tags["recipe"]]
        common = frozenset.intersection(*alike)
        own = sorted(f"{key}={value}" for key, value in _settings(run) - common)
        labels[run.id] = " ".join([run.tags["recipe"], *own])
    return labels
