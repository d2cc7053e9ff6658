"""What came of a run: its result, plots and capabilities, written down and published."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from strategies.grids.progress import tell
from strategies.roster import Roster
from symphony_fl.build.centralized import TRAINER, is_centralized
from symphony_fl.config.learning import EpisodicOptions, SelfPlayOptions, SharedRewardOptions
from symphony_fl.config.options import Recipe
from symphony_fl.launch.progress import Step
from symphony_fl.metrics.capabilities import by_did, capability_vectors
from symphony_fl.metrics.history import History
from symphony_fl.storage.folders import write_json
from symphony_fl.tracking.tracker import Tracker


def publish(
    runtime: str,
    recipe: Recipe,
    folder: Path,
    roster: Roster,
    history: History,
    tracker: Tracker,
    seconds: float,
    error: BaseException | None = None,
) -> None:
    """Result and capabilities into the run's folder; these, plots and adapters into MLflow. Closes the history.

    `runtime`: the way the run went, here to its end; `seconds`: since this server began; `error`: what the run failed
    with.
    """
    tell(Step("results"))
    from symphony_fl.reports.plots import plot_run  # loads matplotlib, of which nothing is wanted until here

    history.close()
    status = "failed" if error is not None else "completed"
    result: dict[str, Any] = {
        "recipe": recipe.name,
        "seed": recipe.seed,
        "status": status,
        **history.summary(recipe.agents),
        **_rollout_figures(recipe, history),
        "parts": parts(recipe, history),
        "seconds": round(seconds, 3),
        "runtime": runtime,
        "agents": recipe.agents,
        "strategy": recipe.strategy.name,
        "recipe_digest": recipe.digest,
        "run": folder.name,
        "folder": str(folder),
        "mlflow_run": tracker.parent,
        "mlflow_uri": tracker.uri,
    }
    if error is not None:
        result["error"] = str(error)
    tracker.result(result)
    tracker.artifact(write_json(folder / "result.json", result))
    tracker.artifact(folder / "recipe.json")
    if history.rounds("evaluate"):
        tasks = recipe.tasks
        for picture in plot_run(history, folder / "plots", tasks.skills, tasks.held_out):
            tracker.artifact(picture, "plots")
        _publish_capabilities(recipe, folder, roster, history, tracker)
    for adapter in sorted(folder.glob("agents/*/adapter/*")) if recipe.tracking.agents else ():
        tracker.artifact(adapter, f"adapters/{adapter.parent.parent.name}")
    tracker.finish("FINISHED" if status == "completed" else "FAILED")


def _rollout_figures(recipe: Recipe, history: History) -> dict[str, float]:
    """Where one agent trains: bytes of weights that all workers got, of rollouts that it got, and how many steps old
    these were on average."""
    if not is_centralized(recipe):
        return {}
    received = history.total("bytes/received")
    ages = history.mean("train", "staleness").values()
    return {
        "bytes_weights": sum(size for agent, size in received.items() if agent != TRAINER),
        "bytes_rollouts": received.get(TRAINER, 0.0),
        "staleness": sum(ages) / len(ages) if ages else 0.0,
    }


def parts(recipe: Recipe, history: History) -> dict[str, dict[str, float | str]]:
    """What came of self-play, memory, shared reward and exchange in the last round, mean over the agents.

    A part that the recipe does not have is absent.
    """

    def last(metric: str) -> float:
        return next(reversed(history.mean("train", metric).values()), 0.0)

    found: dict[str, dict[str, float | str]] = {}
    if isinstance(recipe.selfplay, SelfPlayOptions):
        written = ("valid", "duplicate", "distinct", "difficulty")
        found["self-play"] = {name: last(f"proposals/{name}") for name in written}
    if isinstance(recipe.memory, EpisodicOptions):
        found["memory"] = {name: last(f"memory/{name}") for name in ("episodes", "tasks")}
    if isinstance(recipe.reward, SharedRewardOptions):
        heard = [last(f"reward_shared/{skill}") for skill in recipe.tasks.skills]
        found["shared reward"] = {
            "use": recipe.reward.use, "weight": recipe.reward.weight, "mean": sum(heard) / len(heard),
        }  # fmt: skip
    if recipe.gossips:
        exchange = recipe.exchange
        found["exchange"] = {
            "rule": exchange.rule.name,
            "topology": recipe.topology.name,
            "codec": exchange.codec.name,
        }
        found["exchange"] |= {name: last(name) for name in ("density", "envelope_bytes", "merged")}
    return found


def _publish_capabilities(
    recipe: Recipe, folder: Path, roster: Roster, history: History, tracker: Tracker
) -> None:
    """Who could do what at the last evaluation, by did:key."""
    dids = {member.agent: member.did for member in roster.members()}
    if len(dids) < recipe.agents:
        return  # a resumed run that could not gather its agents again has nothing new to say of them
    tasks = recipe.tasks
    vectors = capability_vectors(history, history.rounds("evaluate")[-1], tasks.skills, tasks.held_out)
    tracker.artifact(write_json(folder / "capabilities.json", by_did(vectors, dids)))
