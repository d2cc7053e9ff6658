"""Tracking: one parent run per recipe and seed, a child run per agent.

Metric names (the paper, section 6.4, in the field's words):

    accuracy/<skill>, accuracy/mean                 held-out accuracy, 0 to 1; mean over all skills of the run
    accuracy/own                                    mean over the skills the agent trains on itself
    accuracy/{unseen,harder}                        before the first and after the last round: mean over skills no agent
                                                    trains on (tasks.unseen), over harder tasks (tasks.harder);
                                                    accuracy_unseen/<skill>, accuracy_harder/<skill>,
                                                    accuracy_level/<difficulty> of each
    smoothness                                      cosine of the round's local update with the one before
                                                    (tracking.trace)
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
    proposals/distinct                              distinct tasks among what was written
    memory/{episodes,tasks}                         attempts that the agent remembers, and the distinct tasks of them
    proposals/{effective,skills}                    distinct tasks over all, number of skills, both by entropy
    proposals/collapsed                             1 where either is below 0.6 of what it could be
    received/{tasks,own,told}                       tasks of the neighbours tried; mean success here, and as they said
    tasks_taken, tasks_refused/<reason>             of the neighbours' tasks (`clients/agents/task_sharing.py`)
    letters_refused/<error>                         task messages refused for that named reason
    letter_bytes                                    bytes of the agent's own task message
    bytes/sent, bytes/received                      len(bytes) of a round's envelopes and task messages (FedAvg: arrays)
    bytes/edge/<i>-<j>                              the same along one edge, from agent i to agent j
    bytes/superlink                                 bytes of envelopes, task messages and adapters in Flower's messages,
                                                    both directions; 0 where agents deliver them directly
    bytes/direct, direct/<i>                        bytes that came directly (exchange.transport=iroh), from agent i,
                                                    by the receiver's word; part of bytes/received
    delivered, fallback/<why>                       edges on which the round's mail was accepted directly; edges on
                                                    which it went by the mailbox instead
    bytes/flower                                    bytes of the whole Flower message contents, both directions
    drift                                           distance to the neighbours' values (where changes travel: to what
                                                    they know of this agent's) / distance moved since the start
    similarity                                      cosine between the agent's and its neighbours' movement
    merge_error                                     what averaging LoRA's factors apart loses, relative (`cross_term`)
    staleness                                       rounds between an update's sealing and its merging; without a round
                                                    barrier: the receiver's rounds meanwhile (`exchange/staleness.py`)
    own_round, clock                                without a round barrier: the agent's own round, also the step of its
                                                    reports (bytes: the network's); seconds of the run's clock
    version                                         centralized: step of the newest weights sent, or sampled with
    staleness                                       centralized: steps between the weights that sampled and the newest
    recomputed                                      largest difference of a recorded log-probability to the trainer's
    rollouts/refused, rollouts/missing              share of the rollouts that came which were not used, of the step's
                                                    parts that are missing
    clip_fraction                                   share of tokens whose ratio was beyond the clip (or the cap)
    refused/<error>                                 envelopes refused for that named reason
    merged, duplicates                              envelopes merged; envelopes already received (rules that forward)
    entries, density, envelope_bytes                entries selected, their share; bytes of the agent's own envelope
    loss, kl, grad_norm, tokens                     of the round's learning
    zero_advantage                                  share of the groups whose samples all earned the same
    mismatch                                        mean |log-probability trained - sampled|: about 0, or the
                                                    adapter that generated is not the one that was trained
    seconds/{learn,generate,score,backward,optimizer,merge,letters,seal,evaluate}   seconds an agent spent
    accuracy_per_kilobyte, reward_per_kilobyte      gain since the start per kB sent
    result/<figure>                                 parent run: the run's result in one number each (`RESULTS`)

A run does not wait for its tracking server. Entries first go into a spool in the run's folder (`spool.py`). A separate
thread (`delivery.py`) delivers them in order to the store (`mlflow_store.py`). While the store is away, entries stay in
the spool; they are delivered when it is back, at the latest by `symphony replay`. Deliveries are idempotent. Runs are
looked up by their own key before they are created. Metrics carry the time of measurement, and the store keeps the same
value, step and time once. Setting tags, parameters, files and status twice changes nothing.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from symphony_fl.config.options import Recipe
from symphony_fl.tracking.delivery import SpoolDelivery
from symphony_fl.tracking.spool import PARENT, Spool

LOG = logging.getLogger("symphony_fl.tracking.tracker")
MAX_PARAM = 500  # characters every MLflow store accepts

RESULTS = (
    "accuracy_before", "accuracy_after", "accuracy_min_agent", "bytes_sent_per_agent", "bytes_received_per_agent",
    "bytes_superlink_per_agent", "rounds", "seconds", "clock_seconds",
)  # fmt: skip
"""Figures of a run's result that its parent run has as metrics, so that a comparison needs nothing else."""


class Tracker:
    """Writes one run. Every call is explicit about its MLflow run: no global active run is touched.

    Parameters
    ----------
    uri : of the store
    recipe, run, folder : what is run, its name, and its folder, where the spool lies
    """

    def __init__(self, uri: str, recipe: Recipe, run: str, folder: Path) -> None:
        self.uri = uri
        self._spool = Spool(folder)
        self._folder = folder
        self._children = recipe.agents if recipe.tracking.agents else 0
        if not self._spool.count:
            self._create(recipe, run)
        self._spool.state["uri"] = uri
        self._spool.save()
        self._deliverer = SpoolDelivery(self._spool, uri, folder)
        self._deliverer.ask()

    def agent(self, agent: int, round: int, metrics: Mapping[str, float]) -> None:
        """Metrics of one agent at a round, to its child run."""
        if agent < self._children:
            self._metrics(str(agent), round, metrics)

    def run(self, round: int, metrics: Mapping[str, float]) -> None:
        """Metrics of the network as a whole at a round, to the parent run; also the time for deliveries."""
        self._metrics(PARENT, round, metrics)
        self._deliverer.ask()

    def tag_agent(self, agent: int, tags: Mapping[str, str]) -> None:
        """Who the agent is: did:key, skills."""
        if agent < self._children:
            self._spool.append({"do": "tags", "run": str(agent), "tags": dict(tags)})

    def artifact(self, path: Path, folder: str | None = None) -> None:
        """A file of the run, to the parent run's artifacts. It is read when it is delivered."""
        inside = path.is_relative_to(self._folder)
        name = str(path.relative_to(self._folder) if inside else path.resolve())
        self._spool.append({"do": "artifact", "run": PARENT, "file": name, "folder": folder})

    def result(self, result: Mapping[str, Any]) -> None:
        """The run's result, as metrics of the parent run; and the way it went, as its tag."""
        values = {f"result/{name}": float(result[name]) for name in RESULTS if result.get(name) is not None}
        self._metrics(PARENT, int(result["rounds"]), values)
        self._spool.append({"do": "tags", "run": PARENT, "tags": {"runtime": result["runtime"]}})

    def finish(self, status: str) -> None:
        """Close parent and children. `status` is FINISHED, FAILED or KILLED."""
        for name in (*map(str, range(self._children)), PARENT):
            self._spool.append({"do": "finish", "run": name, "status": status, "at": _now()})
        self._deliverer.close()
        if self.pending:
            LOG.warning(
                "symphony: %d tracking entries wait in %s; when %s is back: symphony replay %s",
                self.pending, self._spool.path, self.uri, self._folder,
            )  # fmt: skip
        self._spool.close()

    @property
    def parent(self) -> str:
        """MLflow's id of the parent run, waited for up to a minute; empty as long as the store has not been reached."""
        if not self._spool.state.get("runs"):
            self.settle()
        return str(self._spool.state.get("runs", {}).get(PARENT, ""))

    @property
    def pending(self) -> int:
        """Entries that the store does not have yet."""
        return self._spool.pending

    def settle(self) -> None:
        """Wait for the store to have everything, a minute at most; one that is away is not waited for."""
        self._deliverer.settle()

    def _metrics(self, run: str, round: int, metrics: Mapping[str, float]) -> None:
        values = dict(metrics)
        self._spool.append({"do": "metrics", "run": run, "step": round, "at": _now(), "values": values})

    def _create(self, recipe: Recipe, run: str) -> None:
        key, at = secrets.token_hex(8), _now()
        params = {name: str(value)[:MAX_PARAM] for name, value in flat_items(recipe.model_dump()).items()}
        # One entry, and so one line: a kill leaves all of it or nothing.
        entry = {
            "do": "create",
            "experiment": recipe.tracking.experiment,
            "at": at,
            "key": key,
            "params": params,
        }
        tags = run_tags(recipe)
        runs = {PARENT: tags | {"mlflow.runName": run, "kind": "run"}}
        for agent in range(self._children):
            runs[str(agent)] = tags | {
                "mlflow.runName": f"agent-{agent}",
                "agent": str(agent),
                "kind": "agent",
            }
        self._spool.append(entry | {"runs": runs})


def run_tags(recipe: Recipe) -> dict[str, str]:
    """What a run is found and compared by; its children have them too."""
    return {
        "recipe": recipe.name,
        "recipe.digest": recipe.digest,
        "paradigm": recipe.strategy.name,
        "strategy": recipe.strategy.name,
        "agents": str(recipe.agents),
        "model": recipe.model.name,
        "topology": recipe.topology.name,
        "rule": recipe.exchange.rule.name,
        "selection": recipe.exchange.selection.name,
        "density": str(recipe.density),
        "coding": recipe.exchange.codec.name,
        "seed": str(recipe.seed),
    }


def flat_items(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as dotted keys, as MLflow's parameters want them."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= flat_items(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def _now() -> int:
    """Milliseconds, as MLflow counts."""
    return int(time.time() * 1000)
