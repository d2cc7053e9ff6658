"""Simulated time of the paradigms on the paper's devices, over links of several speeds (`round_time.py`).

The agents of all paradigms have the same devices, dealt out in turn: a trainer has the first. `async_gossip` lives by
a clock of its own while it runs, on the same devices and with transfers that take no time, and is told as it was.
"""

from __future__ import annotations

from symphony_fl.config.options import Recipe
from symphony_fl.metrics.history import History
from symphony_fl.simulation.device_profiles import (
    REFERENCE_SECONDS,
    SAMPLES_OF_SECONDS,
    Fleet,
    Hardware,
    recipe_fleet,
    speed_of,
)
from symphony_fl.simulation.round_time import evaluated_seconds

DEVICES = ("rtx4090", "rtx3060", "jetson_agx_orin", "m2")
FREE = "free"
LINKS = {"1": 1.0, "10": 10.0, "100": 100.0}
"""Name -> Mbit/s of every node's link, both ways; FREE: transfers take no time."""


def paper_fleet(agents: int) -> Fleet:
    """The paper's devices for so many nodes, their links free."""
    nodes = tuple(Hardware(speed=speed_of(DEVICES[agent % len(DEVICES)])) for agent in range(agents))
    return Fleet(nodes, REFERENCE_SECONDS / SAMPLES_OF_SECONDS)


def timed_curves(history: History, recipe: Recipe) -> dict[str, list[tuple[float, float]]]:
    """`accuracy/seconds/<link>` -> (simulated seconds, accuracy) of every evaluation; none where the strategy cannot
    be told on that link."""
    accuracy = history.mean("evaluate", "accuracy/mean")
    fleets = {FREE: paper_fleet(recipe.agents)}
    if recipe.asynchronous:
        fleets = {FREE: recipe_fleet(recipe)}
    else:
        fleets |= {name: fleets[FREE].connected(megabits) for name, megabits in LINKS.items()}
    found = {}
    for name, fleet in fleets.items():
        seconds = evaluated_seconds(history, recipe, fleet)
        found[f"accuracy/seconds/{name}"] = [
            (seconds[number], accuracy[number]) for number in sorted(seconds)
        ]
    return found
