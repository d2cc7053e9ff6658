"""The public functions: run recipes, go on with runs, compare them, and look at what came of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from symphony_fl.build.checks import check_recipe
from symphony_fl.config.options import Recipe
from symphony_fl.config.recipe import RecipeError
from symphony_fl.config.recipe import load_recipe as _load_recipe
from symphony_fl.launch.flower import new_run_folder
from symphony_fl.launch.runtime import FLOWER, IN_PROCESS, runner
from symphony_fl.metrics.history import History

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

Progress = Callable[[str], None]
Overrides = Iterable[str] | Mapping[str, object]


@dataclass(frozen=True)
class Result:
    """What came of a run. Everything is in its folder, and read from there.

    Attributes
    ----------
    recipe : as it was run
    folder : the run's folder: recipe, log, history, plots, agents' homes
    figures : the fields of `symphony run --json`, such as accuracy_before, accuracy_after, bytes_sent_per_agent
    """

    recipe: Recipe
    folder: Path
    figures: Mapping[str, Any]

    @property
    def accuracy(self) -> float:
        """Mean held-out accuracy of the agents at the end, in [0, 1]."""
        return float(self.figures["accuracy_after"])

    def history(self) -> DataFrame:
        """One row per agent and event: kind (train, evaluate, bytes, server), round, own, agent, adapter, and one
        column per metric, empty where an event has none of it."""
        import pandas

        lines = (self.folder / "history.jsonl").read_text(encoding="utf-8").splitlines()
        events = [json.loads(line) for line in lines]
        rows = [
            {key: event[key] for key in ("kind", "round", "own", "agent", "adapter")} | event["metrics"]
            for event in events
        ]
        table = pandas.DataFrame(rows)
        return table.drop_duplicates(["kind", "round", "agent", "own"], keep="last", ignore_index=True)

    def adapter(self, agent: int) -> dict[str, np.ndarray]:
        """An agent's last adapter: parameter name -> array, as in its folder in PEFT's format.

        Raises
        ------
        FileNotFoundError
            The run kept none (`tracking.agents=false`), or has no such agent.
        """
        from safetensors.numpy import load_file

        return dict(load_file(self.adapter_folder(agent) / "adapter_model.safetensors"))

    def adapter_folder(self, agent: int) -> Path:
        """What `peft.PeftModel.from_pretrained(base, folder)` loads."""
        return self.folder / "agents" / f"{agent:04d}" / "adapter"

    def plot(self) -> Figure:
        """Accuracy by round and by bytes sent."""
        from symphony_fl.reports.plots import overview

        history = History(self.folder / "history.jsonl")
        try:
            return overview(history)
        finally:
            history.close()


def load_recipe(name_or_path: str | Path, overrides: Overrides = ()) -> Recipe:
    """The checked recipe of that name or file.

    Parameters
    ----------
    overrides : "key=value" texts, or a mapping of dotted keys to values

    Raises
    ------
    RecipeError
        Names the field, its value and what is allowed.
    """
    return check_recipe(_load_recipe(str(name_or_path), _texts(overrides)))


def run(
    recipe: str | Path | Recipe = "default",
    overrides: Overrides = (),
    *,
    rounds: int | None = None,
    agents: int | None = None,
    seed: int | None = None,
    in_process: bool = False,
    folder: str | Path | None = None,
    progress: Progress | None = print,
) -> Result:
    """One run, start to end, as `symphony run`.

    Parameters
    ----------
    recipe : a shipped recipe's name, a file, or a loaded recipe
    overrides : as of `load_recipe`; not for a loaded recipe
    rounds, agents, seed : short for overrides of these names
    in_process : without Flower's and Ray's processes; the same adapters, sooner
    folder : of the run; by default a new one under the Symphony folder
    progress : is told of each step; None for silence

    Raises
    ------
    RecipeError
        Before anything is started: the recipe is refused, or the folder holds a run.
    LaunchError
        The run did not complete; names the cause and the log.
    """
    short = {"rounds": rounds, "agents": agents, "seed": seed}
    given = {key: value for key, value in short.items() if value is not None}
    if isinstance(recipe, Recipe):
        if given or overrides:
            raise RecipeError("overrides: must be given to load_recipe where the recipe is loaded already")
        checked = check_recipe(recipe)
    else:
        checked = load_recipe(recipe, [*_texts(overrides), *_texts(given)])
    place = new_run_folder(checked) if folder is None else Path(folder).expanduser().resolve()
    if (place / "recipe.json").exists():
        raise RecipeError(f"folder = {str(place)!r}: holds a run already; go on with it by resume()")
    return _run(checked, place, in_process, progress)


def resume(folder: str | Path, *, in_process: bool = False, progress: Progress | None = print) -> Result:
    """Go on with a run that was stopped, from its agents' homes; it ends with the numbers it would have had.

    Raises
    ------
    RecipeError
        The folder holds no run.
    LaunchError
        The run did not complete.
    """
    place = Path(folder).expanduser().resolve()
    if not (place / "recipe.json").is_file():
        raise RecipeError(f"folder = {str(place)!r}: holds no run (no recipe.json)")
    return _run(load_recipe(place / "recipe.json"), place, in_process, progress)


def compare(
    recipes: Sequence[str | Path],
    overrides: Overrides = (),
    *,
    seeds: Sequence[int] = (0,),
    in_process: bool = False,
    progress: Progress | None = print,
) -> list[Result]:
    """Every recipe with every seed, one run after the other; all are checked before the first is started.

    Raises
    ------
    RecipeError
        One of the recipes is refused.
    LaunchError
        A run did not complete.
    """
    texts = _texts(overrides)
    todo = [load_recipe(name, [*texts, f"seed={seed}"]) for seed in seeds for name in recipes]
    return [_run(recipe, new_run_folder(recipe), in_process, progress) for recipe in todo]


def _run(recipe: Recipe, folder: Path, in_process: bool, progress: Progress | None) -> Result:
    with runner(IN_PROCESS if in_process else FLOWER) as run_it:
        figures = run_it(recipe, folder, progress or _silent)
    return Result(recipe, folder, figures)


def _silent(line: str) -> None:
    """Progress that is not shown."""


def _texts(overrides: Overrides) -> list[str]:
    """Overrides as `key=value`; values other than text as YAML's flow style has them."""
    if not isinstance(overrides, Mapping):
        return list(overrides)
    return [
        f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in overrides.items()
    ]
