"""A finished run as one row of figures: plain JSON, from the run's folder alone, without any wall-clock.

    scalars     name -> number, None where the run has no such thing; names below
    curves      name -> [[x, y], ...] over samples of the whole network ("accuracy/bytes": over kB sent per agent;
                "accuracy/seconds/<link>": over simulated seconds)
    agents      agent -> the same, of one agent: "accuracy", "reward"
    matrices    similarity of the agents' last updates, and of their movements since the start [N, N]; affinity [N, S]
    levels      difficulty -> accuracy; trained, and beyond

Formulas: `metrics/paper_metrics.py`, `metrics/affinity.py`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from symphony_fl.build.centralized import TRAINER, is_centralized
from symphony_fl.build.components import held_out_tasks, recipe_rule, recipe_topology
from symphony_fl.build.generalization import harder_tasks
from symphony_fl.config.options import Recipe
from symphony_fl.experiment.paradigms import Planned, network_samples
from symphony_fl.experiment.timing import timed_curves
from symphony_fl.metrics.affinity import affinity
from symphony_fl.metrics.capabilities import network_figures, skill_scores
from symphony_fl.metrics.history import Event, History
from symphony_fl.metrics.paper_metrics import (
    accuracy_by_level,
    completion,
    cosine_matrix,
    gain_per_kilobyte,
    mean_off_diagonal,
    over_samples,
    samples_to_share,
    worst_drop,
)

Row = dict[str, Any]
CONVERGED = 0.95
"""The share of the final gain at which a run is said to have converged."""
WINDOW = 1 / 15
"""The share of a run's samples, a round of `given_tasks`, over which the first and the last reward are means."""


def run_row(planned: Planned, folder: Path) -> Row:
    """The row of a completed run that lies in `folder`.

    Raises
    ------
    ValueError
        No agent was evaluated.
    """
    history = History(folder / "history.jsonl")
    history.close()  # it is read only
    recipe = planned.recipe
    if not history.rounds("evaluate"):
        raise ValueError(f"{history.path}: holds no evaluation, must hold at least one")
    curves = _curves(history, recipe)
    matrices, similar = _similarities(history, folder, recipe)
    curves |= similar | timed_curves(history, recipe)
    agents, scores_NS = skill_scores(history, history.rounds("evaluate")[-1], recipe.tasks.skills)
    matrices["affinity"] = affinity(scores_NS).tolist()
    scalars = _accuracies(history) | network_figures(scores_NS)
    scalars |= _bytes_and_gains(history, recipe, curves) | _interaction(history, recipe)
    scalars |= {
        "smoothness": _mean([y for _, y in curves["smoothness"]]),
        "similarity/updates": _last(curves["similarity/updates"]),
        "similarity/movements": _last(curves["similarity/movements"]),
        "drift": _last(curves["drift"]),
        "staleness": _mean([y for _, y in curves["staleness"]]),
        "converged": samples_to_share(curves["accuracy"], CONVERGED),
        "worst_drop": worst_drop(curves["accuracy"]),
    }
    return {
        "paradigm": planned.paradigm,
        "seed": planned.seed,
        "digest": recipe.digest,
        "evaluated": agents,
        "skills": list(recipe.tasks.skills),
        "scalars": scalars,
        "curves": curves,
        "agents": _traces(history, recipe),
        "matrices": matrices,
        "levels": _levels(history, recipe),
    }


def _final(history: History) -> list[Event]:
    last = history.rounds("evaluate")[-1]
    return [event for event in history.events("evaluate") if event.round == last]


def _accuracies(history: History) -> dict[str, float | None]:
    """Means over the agents that were evaluated, before the first and after the last round."""
    rounds = history.rounds("evaluate")
    found: dict[str, float | None] = {}
    for name in ("mean", "own", "unseen", "harder"):
        values = history.mean("evaluate", f"accuracy/{name}")
        found[f"accuracy/{name}"] = values.get(rounds[-1])
        found[f"accuracy/{name}/before"] = values.get(rounds[0])
    found["accuracy/lowest"] = min(event.metrics["accuracy/mean"] for event in _final(history))
    return found


def _curves(history: History, recipe: Recipe) -> dict[str, Any]:
    per_round = network_samples(recipe)
    accuracy = history.mean("evaluate", "accuracy/mean")
    drift = history.mean("train", "drift") or history.mean("evaluate", "drift")
    sent = {number: sum(history.total("bytes/sent", number).values()) for number in accuracy}
    return {
        "accuracy": over_samples(accuracy, per_round),
        "accuracy/bytes": [(sent[number] / recipe.agents / 1000, accuracy[number]) for number in accuracy],
        "reward": over_samples(history.mean("train", "reward/local"), per_round),
        "drift": over_samples(drift, per_round),
        "smoothness": over_samples(history.mean("train", "smoothness"), per_round),
        "staleness": over_samples(_staleness(history), per_round),
    }


def _bytes_and_gains(history: History, recipe: Recipe, curves: dict[str, Any]) -> dict[str, float | None]:
    """kB per agent, and of the whole network what was parameters: all that agents send, but where one trains on what
    others generate, what those received, for they send rollouts, and under FedAvg what comes back, too. The reward's
    gain is from the first samples to the last, as many in all paradigms."""
    sent, received = history.total("bytes/sent"), history.total("bytes/received")
    parameters = sum(sent.values())
    if is_centralized(recipe):
        parameters = sum(size for agent, size in received.items() if agent != TRAINER)
    elif recipe.strategy.name == "fedavg":
        parameters += sum(received.values())
    each = parameters / recipe.agents
    accuracy = curves["accuracy"]
    first, last = _ends(curves["reward"])
    return {
        "kilobytes/sent": sum(sent.values()) / recipe.agents / 1000,
        "kilobytes/received": sum(received.values()) / recipe.agents / 1000,
        "kilobytes/parameters": parameters / 1000,
        "accuracy/per_kilobyte": gain_per_kilobyte(accuracy[0][1], accuracy[-1][1], each),
        "reward/per_kilobyte": None
        if first is None or last is None
        else gain_per_kilobyte(first, last, each),
        "reward/first": first,
        "reward/last": last,
    }


def _ends(curve: Sequence[tuple[float, float]]) -> tuple[float | None, float | None]:
    """Means over the first and the last `WINDOW` of a curve over samples, of one point at least."""
    if not curve:
        return None, None
    window = max(WINDOW * curve[-1][0], curve[0][0])
    return (
        _mean([y for x, y in curve if x <= window]),
        _mean([y for x, y in curve if x > curve[-1][0] - window]),
    )


def _interaction(history: History, recipe: Recipe) -> dict[str, float | None]:
    """Shares: rounds done of those planned, updates merged of those that had recipients, mail refused.

    The recipients of an update are all agents where updates are forwarded, else the neighbours of its round. Where one
    agent trains on what others generate, rollouts stand for updates: those used of those assigned.
    """
    centralized = is_centralized(recipe)
    done: dict[int, set[int]] = defaultdict(set)
    for event in history.events("train"):
        if not centralized or event.agent == TRAINER:
            done[event.agent].add(event.own or event.round)
    trainers = 1 if centralized else recipe.agents
    rounds = sum(map(len, done.values()))
    found: dict[str, float | None] = {"completion/rounds": completion(rounds, recipe.rounds * trainers)}
    if centralized:
        missing = _mean(list(history.mean("train", "rollouts/missing").values()))
        found["completion/updates"] = None if missing is None else 1 - missing
        found["refused"] = _mean(list(history.mean("train", "rollouts/refused").values()))
        return found
    reports = _reports(history)
    merged = sum(event.metrics.get("merged", 0.0) for event in reports)
    again = sum(event.metrics.get("duplicates", 0.0) for event in reports)
    refused = sum(
        value
        for event in (
            *reports,
            *history.events("bytes"),
        )  # the server's own counts are recorded with the bytes
        for name, value in event.metrics.items()
        if name.startswith("refused/")
    )
    arrived = merged + again + refused
    found["refused"] = refused / arrived if arrived else None
    found["completion/updates"] = completion(merged, _meant(recipe, done)) if merged else None
    return found


def _reports(history: History) -> list[Event]:
    """Agents' reports, each once: without a round barrier, one evaluation may stand for two rounds."""
    found: dict[tuple[str, int, float], Event] = {}
    for kind in ("train", "evaluate"):
        for event in history.events(kind):
            said = event.metrics.get("clock", float(event.round))
            found.setdefault((kind, event.agent, said), event)
    return list(found.values())


def _staleness(history: History) -> dict[int, float]:
    """Round -> mean over the reports of the round that merged something; mail comes with either kind of message."""
    values: dict[int, list[float]] = defaultdict(list)
    for event in _reports(history):
        if "staleness" in event.metrics:
            values[event.round].append(event.metrics["staleness"])
    return {number: sum(found) / len(found) for number, found in sorted(values.items())}


def _meant(recipe: Recipe, done: Mapping[int, set[int]]) -> int:
    """How many (update, recipient) pairs the rounds done by each agent made."""
    topology = recipe_topology(recipe)
    everybody = recipe_rule(recipe, size=1, agent=0).forwards
    return sum(
        recipe.agents - 1 if everybody else len(topology.neighbours(agent, number))
        for agent, numbers in done.items()
        for number in numbers
    )


def _similarities(
    history: History, folder: Path, recipe: Recipe
) -> tuple[dict[str, Any], dict[str, list[tuple[float, float]]]]:
    """(matrices of the last evaluation, curves of the mean over pairs) of what agents left in their homes' traces."""
    matrices: dict[str, Any] = {}
    curves: dict[str, list[tuple[float, float]]] = {"similarity/updates": [], "similarity/movements": []}
    for number in history.rounds("evaluate"):
        files = sorted(folder.glob(f"agents/*/trace/evaluated-{number:05}.safetensors"))
        if len(files) < 2:  # no other agent to compare with
            continue
        kept = [load_file(file) for file in files]
        for name, key in (("update", "similarity/updates"), ("movement", "similarity/movements")):
            matrix_NN = cosine_matrix(np.stack([arrays[name] for arrays in kept]))
            mean = mean_off_diagonal(matrix_NN)
            if mean is not None:
                curves[key].append((number * network_samples(recipe), mean))
                matrices[key] = np.nan_to_num(matrix_NN).tolist()
    return matrices, curves


def _traces(history: History, recipe: Recipe) -> dict[str, dict[str, list[tuple[float, float]]]]:
    """Agent -> its accuracy and reward over the network's samples; of several reports in a round, the last."""
    found: dict[str, dict[str, dict[float, float]]] = defaultdict(lambda: {"accuracy": {}, "reward": {}})
    for kind, metric, name in (
        ("evaluate", "accuracy/mean", "accuracy"),
        ("train", "reward/local", "reward"),
    ):
        for event in history.events(kind):
            if metric in event.metrics:
                place = float(event.round * network_samples(recipe))
                found[str(event.agent)][name][place] = event.metrics[metric]
    return {
        agent: {name: list(points.items()) for name, points in curves.items()}
        for agent, curves in sorted(found.items())
    }


def _levels(history: History, recipe: Recipe) -> dict[str, dict[str, float]]:
    """Difficulty -> accuracy after the last round, of trained levels and of harder ones."""
    final = _final(history)
    trained = accuracy_by_level(held_out_tasks(recipe), [event.solved for event in final])
    beyond: dict[str, float] = {}
    for level in sorted({task.difficulty for task in harder_tasks(recipe)}):
        name = f"accuracy_level/{level}"
        values = [event.metrics[name] for event in final if name in event.metrics]
        if values:
            beyond[str(level)] = sum(values) / len(values)
    return {"trained": {str(level): value for level, value in trained.items()}, "beyond": beyond}


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _last(curve: Any) -> float | None:
    return curve[-1][1] if curve else None
