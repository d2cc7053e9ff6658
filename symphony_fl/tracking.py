"""MLflow: one parent run per recipe and seed, a child run per agent. The only importer of mlflow.

Metric names (the paper, section 6.4, in the field's words):

    accuracy/<skill>, accuracy/mean                 held-out accuracy, 0 to 1; mean over all skills of the run
    accuracy/own                                    mean over the skills the agent trains on itself
    accuracy/min                                    parent run: the lowest agent's mean (child runs: the skill "min")
    affinity/<skill>                                child runs: agent-task affinity, the agent's accuracy less the mean
                                                    over the agents evaluated in the round, -1 to 1
    affinity/mean_abs                               parent run: mean of |affinity| over agents and skills
    specialisation                                  0: equally good at everything, 1: good at one skill only;
                                                    parent run: mean over agents
    diversity                                       parent run: diversity of expertise, 0 (all agents have one profile)
                                                    to 1 (their skills are disjoint); chance adds to it, `capabilities`
                                                    says how much
    reward/local, reward/<skill>                    mean reward of the round's rollouts, 0 to 1
    reward_shared/<skill>                           the network's windowed, delayed, trimmed mean as this agent heard it
    difficulty                                      mean over the round's attempts (agents with a memory)
    proposals/{valid,duplicate,difficulty}          of self-play: shares of tasks among what was written, mean level
    proposals/{effective,skills}                    distinct tasks over all, number of skills, both by entropy
    proposals/collapsed                             1 where either is below 0.6 of what it could be
    received/{tasks,own,told}                       tasks of the neighbours tried; mean success here, and as they said
    tasks_taken, tasks_refused/<reason>             of the neighbours' tasks (`learning/sharing`, `clients/letters`)
    letters_refused/<error>                         letters refused for that named reason
    letter_bytes                                    bytes of the agent's own letter
    bytes/sent, bytes/received                      len(bytes) of envelopes and letters (FedAvg: of arrays) in the round
    bytes/edge/<i>-<j>                              the same along one edge, from agent i to agent j
    bytes/superlink                                 bytes of envelopes, letters and adapters in Flower's messages, both
                                                    directions; 0 where agents hand them to each other
    bytes/direct, direct/<i>                        bytes that came directly (exchange.transport=iroh), from agent i,
                                                    by the receiver's word; part of bytes/received
    delivered, fallback/<why>                       edges on which the round's mail was accepted directly; edges on
                                                    which it went by the mailbox instead
    bytes/flower                                    bytes of the whole Flower message contents, both directions
    drift                                           distance to the neighbours' values (where changes travel: to what
                                                    they know of this agent's) / distance moved since the start
    similarity                                      cosine between the agent's and its neighbours' movement
    merge_error                                     what averaging LoRA's factors apart loses, relative (`cross_term`)
    staleness                                       rounds between an update's sealing and its merging; out of step: the
                                                    receiver's rounds while it was made (`exchange/staleness.py`)
    own_round, clock                                out of step: the agent's own round, also the step of its reports in
                                                    its run (bytes: the network's); seconds of the run's clock
    refused/<error>                                 envelopes refused for that named reason
    merged, duplicates                              envelopes merged; envelopes had before (rules that forward)
    entries, density, envelope_bytes                entries selected, their share; bytes of the agent's own envelope
    loss, kl, grad_norm, tokens                     of the round's learning
    zero_advantage                                  share of the groups whose samples all earned the same
    mismatch                                        mean |log-probability trained - sampled|: about 0, or the
                                                    adapter that generated is not the one that was trained
    seconds/{learn,generate,score,backward,optimizer,merge,letters,seal,evaluate}   seconds an agent spent
    accuracy_per_kilobyte, reward_per_kilobyte      gain since the start per kB sent
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag

from symphony_fl.folders import safe_name
from symphony_fl.options import EXPERIMENT
from symphony_fl.recipe import Recipe

SQLITE = "sqlite:///"
MAX_PARAM = 500  # characters every MLflow store accepts


@dataclass(frozen=True)
class TrackingIds:
    """Where a run is recorded; kept in the run's folder so that a resumed run goes on in the same place."""

    experiment: str
    parent: str
    children: dict[str, str]


class Tracker:
    """Writes one run. Every call is explicit about its MLflow run: no global active run is touched."""

    def __init__(self, uri: str, recipe: Recipe, run: str, folder: Path) -> None:
        self.uri = uri
        self._client = MlflowClient(tracking_uri=uri)
        self._file = folder / "tracking.json"
        self._ids = self._resume() or self._create(recipe, run)

    def agent(self, agent: int, round: int, metrics: Mapping[str, float]) -> None:
        """Metrics of one agent at a round, to its child run."""
        if str(agent) in self._ids.children:
            self._log(self._ids.children[str(agent)], round, metrics)

    def run(self, round: int, metrics: Mapping[str, float]) -> None:
        """Metrics of the network as a whole at a round, to the parent run."""
        self._log(self._ids.parent, round, metrics)

    def tag_agent(self, agent: int, tags: Mapping[str, str]) -> None:
        """Who the agent is: did:key, skills."""
        for key, value in tags.items() if str(agent) in self._ids.children else ():
            self._client.set_tag(self._ids.children[str(agent)], key, value)

    def artifact(self, path: Path, folder: str | None = None) -> None:
        """A file of the run, to the parent run's artifacts."""
        self._client.log_artifact(self._ids.parent, str(path), folder)

    def finish(self, status: str) -> None:
        """Close parent and children. `status` is FINISHED, FAILED or KILLED."""
        for run_id in (*self._ids.children.values(), self._ids.parent):
            self._client.set_terminated(run_id, status)

    @property
    def parent(self) -> str:
        """MLflow's id of the parent run."""
        return self._ids.parent

    def _log(self, run_id: str, round: int, metrics: Mapping[str, float]) -> None:
        now = int(time.time() * 1000)
        self._client.log_batch(run_id, [Metric(name, value, now, round) for name, value in metrics.items()])

    def _resume(self) -> TrackingIds | None:
        if not self._file.exists():
            return None
        return TrackingIds(**json.loads(self._file.read_text()))

    def _create(self, recipe: Recipe, run: str) -> TrackingIds:
        experiment = _experiment(self._client, self.uri, recipe.tracking.experiment)
        tags = {
            "mlflow.runName": run,
            "recipe": recipe.name,
            "recipe.digest": recipe.digest,
            "strategy": recipe.strategy,
            "model": recipe.model.name,
            "topology": recipe.topology.name,
            "rule": recipe.exchange.rule,
            "selection": recipe.exchange.selection,
            "density": str(recipe.exchange.density),
            "coding": recipe.exchange.coding,
            "seed": str(recipe.seed),
        }
        parent = self._client.create_run(experiment, tags=tags).info.run_id
        params = [Param(key, str(value)[:MAX_PARAM]) for key, value in flat_items(asdict(recipe)).items()]
        self._client.log_batch(parent, params=params)
        agents = range(recipe.agents if recipe.tracking.agents else 0)
        children = {str(agent): self._create_child(experiment, parent, agent) for agent in agents}
        ids = TrackingIds(experiment, parent, children)
        self._file.write_text(json.dumps(asdict(ids)))
        return ids

    def _create_child(self, experiment: str, parent: str, agent: int) -> str:
        tags = {"mlflow.runName": f"agent-{agent}", "mlflow.parentRunId": parent, "agent": str(agent)}
        run_id = self._client.create_run(experiment, tags=tags).info.run_id
        self._client.log_batch(run_id, tags=[RunTag("kind", "agent")])
        return str(run_id)


def log_summary(uri: str, name: str, files: Sequence[Path], experiment: str = EXPERIMENT) -> None:
    """A finished MLflow run of its own for what many runs come to together: tables and plots as artifacts."""
    client = MlflowClient(tracking_uri=uri)
    tags = {"mlflow.runName": name, "kind": "summary"}
    run_id = client.create_run(_experiment(client, uri, experiment), tags=tags).info.run_id
    for path in files:
        client.log_artifact(run_id, str(path))
    client.set_terminated(run_id, "FINISHED")


def _experiment(client: MlflowClient, uri: str, name: str) -> str:
    """The id of the experiment of that name, which is made where there is none.

    With a SQLite store, artifacts lie beside its file. MLflow would put them under the working folder, which for a
    ServerApp is a folder of Flower's that is gone after the run.
    """
    found = client.get_experiment_by_name(name)
    if found is not None:
        return str(found.experiment_id)
    location = None
    if uri.startswith(SQLITE):
        location = (Path(uri.removeprefix(SQLITE)).resolve().parent / "artifacts" / safe_name(name)).as_uri()
    return str(client.create_experiment(name, artifact_location=location))


def flat_items(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as dotted keys, as MLflow's parameters want them."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= flat_items(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat
