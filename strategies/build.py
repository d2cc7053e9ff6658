"""Which strategy a recipe asks for, built from its options."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from flwr.serverapp.strategy import Strategy

from strategies.async_gossip import AsyncGossip
from strategies.asynchrony.clocks import Clock, VirtualClock, WallClock
from strategies.centralized import Centralized
from strategies.fedavg import RecordedFedAvg
from strategies.gossip import Gossip
from strategies.grids.adaptive_timeouts import AdaptiveTimeouts
from strategies.isolated import isolated
from strategies.recorder import Recorder
from strategies.roster import Roster
from symphony_fl.build.components import recipe_rule, recipe_topology
from symphony_fl.config.options import Recipe
from symphony_fl.config.recipe import RecipeError
from symphony_fl.config.strategy import VirtualClockOptions
from symphony_fl.registry import builder
from symphony_fl.simulation.device_profiles import recipe_fleet, round_seconds

Loop = Strategy | AsyncGossip
"""What carries a run from its start to its end."""
KEPT_CHANGES = 16  # steps of sparse changes that a server keeps for workers that miss some


def build_strategy(recipe: Recipe, roster: Roster, recorder: Recorder, finished: int) -> Loop:
    """The recipe's strategy, for a network that has finished `finished` rounds.

    Raises
    ------
    RecipeError
        A run of this strategy cannot be taken up again.
    """
    name = recipe.strategy.name
    if name not in _STRATEGIES:
        build = builder("strategies", name)
        strategy: Strategy = build(recipe=recipe, roster=roster, recorder=recorder, finished=finished)
        return strategy
    return _STRATEGIES[name](recipe, roster, recorder, finished)


def _gossip(recipe: Recipe, roster: Roster, recorder: Recorder, finished: int) -> Loop:
    return Gossip(
        recipe_topology(recipe),
        roster,
        recorder,
        finished=finished,
        everybody=_forwards(recipe),
        silence=recipe.limits.round_timeout,
    )


def _async_gossip(recipe: Recipe, roster: Roster, recorder: Recorder, finished: int) -> Loop:
    options, most = recipe.async_gossip, recipe.limits.round_timeout
    clock: Clock
    if isinstance(recipe.clock, VirtualClockOptions):
        clock = VirtualClock(partial(round_seconds, recipe), recipe_fleet(recipe))
    else:
        booked = recorder.history.own_rounds().values()
        clock = WallClock(passed=max((max(times.values()) for times in booked), default=0.0))
    timeouts = AdaptiveTimeouts(options.deadline, options.deadline_floor, most)
    return AsyncGossip(
        recipe_topology(recipe),
        roster,
        recorder,
        clock=clock,
        timeouts=timeouts,
        rounds=recipe.rounds,
        everybody=_forwards(recipe),
    )


def _forwards(recipe: Recipe) -> bool:
    """Whether agents forward updates, and so must know every agent's key."""
    return recipe_rule(recipe, size=1, agent=0).forwards


def _isolated(recipe: Recipe, roster: Roster, recorder: Recorder, finished: int) -> Loop:
    return isolated(roster, recorder, finished=finished, silence=recipe.limits.round_timeout)


def _fedavg(recipe: Recipe, roster: Roster, recorder: Recorder, finished: int) -> Loop:
    if finished:
        raise RecipeError(
            "strategy = 'fedavg': cannot be resumed; the global adapter lived in the stopped server"
        )
    return RecordedFedAvg(roster, recorder)


def _centralized(recipe: Recipe, roster: Roster, recorder: Recorder, finished: int) -> Loop:
    options = recipe.centralized
    return Centralized(
        roster,
        recorder,
        rounds=recipe.rounds,
        finished=finished,
        lag=options.lag,
        fanout=options.fanout,
        kept=_kept_weights(recipe),
        timeout=recipe.limits.round_timeout,
    )


def _kept_weights(recipe: Recipe) -> int:
    """Steps of weights the server keeps for workers that are not served: changes build on one another, of whole weights
    those do that are due next. None over slow links, where weights are old because of their bytes."""
    options = recipe.centralized
    if options.bandwidth:
        return 0
    return KEPT_CHANGES if options.send == "changes" else options.lag + 1


_STRATEGIES: dict[str, Callable[[Recipe, Roster, Recorder, int], Loop]] = {
    "gossip": _gossip,
    "async_gossip": _async_gossip,
    "fedavg": _fedavg,
    "isolated": _isolated,
    "centralized": _centralized,
}
