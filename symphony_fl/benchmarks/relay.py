"""The cost of carrying mail against the number of agents: gossip without learning, through real `flwr run`.

One row per number of agents, on one machine. Each round an agent sends a hundredth of the adapter's values to each of
two neighbours:

    agents, agents_per_node     N; how many of them share a simulated SuperNode
    rounds                      timed rounds, after one untimed round
    rounds_per_second           whole rounds: each agent opens its home, merges, seals, commits; each reply is recorded
    seconds_per_agent_round     1 / (rounds_per_second * N)
    bytes_sent_per_agent        in all rounds
    server_peak_bytes           largest resident size of the server's process, Flower's own state in it

The times include durable commits: each agent syncs its home to disk once a round.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from symphony_fl.build.checks import check_recipe
from symphony_fl.config.options import Recipe
from symphony_fl.config.recipe import load_recipe
from symphony_fl.launch.flower import run_recipe
from symphony_fl.launch.local_superlink import private_superlink
from symphony_fl.metrics.history import History

SIZES = (10, 100, 1000)
ROUNDS = 5
NODES = 10  # simulated SuperNodes, however many agents


def run(sizes: Sequence[int] = SIZES, rounds: int = ROUNDS) -> list[dict[str, Any]]:
    """The rows above."""
    return [row(agents, -(-agents // NODES), rounds) for agents in sizes]


def row(agents: int, agents_per_node: int, rounds: int = ROUNDS) -> dict[str, Any]:
    """One row.

    Raises
    ------
    LaunchError
        Flower did not finish the run.
    """
    recipe = still_recipe(agents, agents_per_node, rounds + 2)
    with tempfile.TemporaryDirectory(prefix="symphony-relay-") as name, private_superlink() as link:
        folder = Path(name) / "run"
        run_recipe(link, recipe, folder, _silent)
        return figures(recipe, folder)


def figures(recipe: Recipe, folder: Path) -> dict[str, Any]:
    """The row of a finished run of a recipe of `still_recipe`."""
    result = json.loads((folder / "result.json").read_text())
    history = History(folder / "history.jsonl")
    server = {event.round: event.metrics for event in history.events("server")}
    history.close()
    rounds = recipe.rounds - 2
    # The first round opens what later ones find open, and the last is evaluated: neither is like the others.
    seconds = server[rounds + 1]["seconds"] - server[1]["seconds"]
    return {
        "agents": recipe.agents,
        "agents_per_node": recipe.agents_per_node,
        "rounds": rounds,
        "rounds_per_second": rounds / seconds,
        "seconds_per_agent_round": seconds / (rounds * recipe.agents),
        "bytes_sent_per_agent": result["bytes_sent_per_agent"],
        "server_peak_bytes": int(max(metrics["peak_bytes"] for metrics in server.values())),
    }


def still_recipe(agents: int, agents_per_node: int, rounds: int) -> Recipe:
    """Gossip as always, but for the learning."""
    overrides = [
        f"agents={agents}",
        f"agents_per_node={agents_per_node}",
        f"rounds={rounds}",
        "name=relay",
        "learner.steps=0",
        "exchange.selection=cyclic",
        "exchange.selection.density=0.01",
        "tasks.skills=[reverse]",
        "tasks.held_out=1",
        f"tasks.evaluate_every={rounds}",
        "tracking.agents=false",
        "limits.wait_for_nodes=1800",
    ]
    return check_recipe(load_recipe("gossip", overrides))


def _silent(line: str) -> None:
    """A benchmark prints its figures only."""
