"""What `async_gossip` needs to know of a recipe: how far its agents' rounds reach, and what it refuses.

Agents count their own rounds. A run is over when all of them together have done agents x rounds.
"""

from __future__ import annotations

from symphony_fl.config.exchange import EpidemicOptions
from symphony_fl.config.options import Recipe
from symphony_fl.config.recipe import RecipeError
from symphony_fl.config.strategy import VirtualClockOptions
from symphony_fl.exchange.topology import Topology
from symphony_fl.simulation.device_profiles import check_hardware

RULES = ("average", "delta", "choco", "epidemic")
"""The rules that take updates whenever they come. `noloco` pairs steps of the same round."""

SYNCHRONOUS_OUTBOXES = 2  # a neighbour may be one whole round behind when a run resumes

AHEAD = 1  # rounds finished and not yet fetched; the backpressure of a slow network


def last_round(recipe: Recipe) -> int:
    """The highest round an agent of the run can reach: in the extreme one does the work of all."""
    return recipe.rounds * recipe.agents if recipe.asynchronous else recipe.rounds


def rounds_ahead(recipe: Recipe) -> int:
    """Rounds an agent may finish before they are asked for (section 5.4.1); 0 where agents are kept in step."""
    return AHEAD if recipe.asynchronous else 0


def kept_outboxes(recipe: Recipe) -> int:
    """How many rounds' outboxes a home keeps, so that a server that lost its mail can be given it again.

    Where only a sender's newest update counts (`average`), older ones need not be kept.
    """
    if not recipe.asynchronous or recipe.exchange.rule.name == "average":
        return SYNCHRONOUS_OUTBOXES
    return max(SYNCHRONOUS_OUTBOXES, 1 + recipe.async_gossip.max_staleness)


def check_asynchronous(recipe: Recipe, topology: Topology) -> None:
    """Refuse what needs all agents in the same round.

    Raises
    ------
    RecipeError
        Names the field, its value and what is allowed.
    """
    check_hardware(recipe)
    if not recipe.asynchronous:
        return
    exchange, options = recipe.exchange, recipe.async_gossip
    rule = exchange.rule
    if rule.name not in RULES:
        _refuse("exchange.rule", rule.name, f"one of {', '.join(RULES)}")
    if isinstance(rule, EpidemicOptions) and rule.combine != "agents":
        _refuse("exchange.rule.combine", rule.combine, "'agents', the others wait for whole rounds")
    if exchange.robust.name != "none":
        _refuse(
            "exchange.robust", exchange.robust.name, "'none', the others compare all updates of one round"
        )
    if recipe.reward.name != "local":
        _refuse("reward", recipe.reward.name, "'local', the shared one has a window of common rounds")
    if topology.period != 1:
        _refuse("topology", topology.name, "a graph that does not change with the round")
    if options.start_with > recipe.agents:
        _refuse("strategy.start_with", options.start_with, f"at most agents, {recipe.agents}")
    if options.start_with and isinstance(recipe.clock, VirtualClockOptions):
        _refuse("strategy.start_with", options.start_with, "0 with the virtual clock, which is reproducible")


def _refuse(field: str, value: object, allowed: str) -> None:
    raise RecipeError(f"{field} = {value!r}: must be {allowed} (strategy 'async_gossip')")
