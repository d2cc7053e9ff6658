"""Finished runs of the paper's experiment, written by hand: a history and traces whose figures are easy to compute."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from symphony_fl.build.components import held_out_tasks
from symphony_fl.build.generalization import harder_tasks
from symphony_fl.experiment.paradigms import Planned
from symphony_fl.metrics.history import Event, History

SENT = 10_000.0  # bytes an agent sends per round


def write_run(folder: Path, planned: Planned, after: float) -> Path:
    """A run in which every round was done, everything sent was merged, and accuracy went from 0.25 to `after`, with a
    fall of 0.05 on the way; rewards went from 0.2 to 0.6."""
    history = History(folder / "history.jsonl")
    recipe = planned.recipe
    evaluated = [
        0,
        *(n for n in range(1, recipe.rounds) if n % recipe.tasks.evaluate_every == 0),
        recipe.rounds,
    ]
    agents = [0] if recipe.strategy.name == "centralized" else list(range(recipe.agents))
    for number in range(recipe.rounds + 1):
        for agent in agents:
            if number:
                _train(history, planned, number, agent)
            if number in evaluated:
                place = evaluated.index(number) / (len(evaluated) - 1)
                _evaluate(history, planned, number, agent, 0.25 + place * (after - 0.25))
                _trace(folder, number, agent)
        if number and recipe.strategy.name != "isolated" and recipe.agents > 1:
            for agent in range(recipe.agents):
                history.add(Event("bytes", number, agent, {"bytes/sent": SENT, "bytes/received": SENT}))
    history.close()
    return folder


def _train(history: History, planned: Planned, number: int, agent: int) -> None:
    recipe = planned.recipe
    share = (number - 1) / max(1, recipe.rounds - 1)
    metrics = {"reward/local": 0.2 + 0.4 * share, "drift": 0.5, "staleness": 1.0}
    if number > 1:
        metrics["smoothness"] = 0.25
    if recipe.strategy.name in ("gossip", "async_gossip"):
        metrics |= {"merged": recipe.agents - 1, "refused/replayed": 1.0}
    own = number if recipe.strategy.name == "async_gossip" else 0
    history.add(Event("train", number, agent, metrics | ({"clock": 60.0 * number} if own else {}), own=own))


def _evaluate(history: History, planned: Planned, number: int, agent: int, accuracy: float) -> None:
    """Every agent is better by 0.1 at one skill and worse by 0.1 at the next."""
    recipe = planned.recipe
    scores = dict.fromkeys(recipe.tasks.skills, accuracy)
    scores[recipe.tasks.skills[agent]] += 0.1
    scores[recipe.tasks.skills[agent + 1]] -= 0.1
    metrics = {f"accuracy/{skill}": value for skill, value in scores.items()}
    metrics |= {"accuracy/mean": accuracy, "accuracy/own": accuracy + 0.05, "clock": 60.0 * number}
    if number in (0, recipe.rounds):
        metrics |= {"accuracy/unseen": accuracy / 2, "accuracy/harder": accuracy / 4}
        metrics |= {f"accuracy_level/{task.difficulty}": accuracy / 4 for task in harder_tasks(recipe)}
    solved = "10" * (len(held_out_tasks(recipe)) // 2)
    history.add(Event("evaluate", number, agent, metrics, solved=solved))


def _trace(folder: Path, number: int, agent: int) -> None:
    """Updates of agents are at right angles; all have moved the same way."""
    if not number:
        return
    file = folder / "agents" / f"{agent:04}" / "trace" / f"evaluated-{number:05}.safetensors"
    file.parent.mkdir(parents=True, exist_ok=True)
    update = np.eye(8, dtype=np.float32)[agent]
    save_file({"update": update, "movement": np.ones(8, np.float32)}, file)
