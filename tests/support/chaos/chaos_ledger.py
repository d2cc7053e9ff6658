"""Was any update lost, or counted twice? From the envelopes themselves and what the agents' homes say at the end.

Under `epidemic` an agent's shared state is an exact sum of whole numbers over the updates it has had, its own too.
While the run goes on, every envelope is taken from its author's home as it is committed. At the end the sum that an
agent keeps must be, to the last unit, that over the envelopes its books say it has had: each once.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from clients.agents.exchange import Exchange
from clients.home.founding import HomeError
from clients.home.home import STATE, Home
from clients.home.state_file import State
from symphony_fl.build.learners import recipe_policy
from symphony_fl.config.recipe import recipe_from_json
from symphony_fl.exchange.fixed_point import to_grid
from symphony_fl.exchange.messages.envelope import open_envelope
from symphony_fl.exchange.messages.session import Expectation
from symphony_fl.identity.replay_window import ReplayWindow

OWN = "0"  # the label of an agent's own envelope in its outbox


@dataclass
class Watch:
    """Collects the envelopes of one run from its homes, by (agent, round).

    `changed` are those that were replaced by another one of the same number, which must never be.
    """

    homes: dict[int, Path]
    envelopes: dict[tuple[int, int], bytes] = field(default_factory=dict)
    changed: list[tuple[int, int]] = field(default_factory=list)
    _stamps: dict[int, int] = field(default_factory=dict)

    def look(self) -> None:
        """Take what is new; a home that is not there yet or is damaged just now is looked at again."""
        for agent, folder in self.homes.items():
            try:
                stamp = (folder / STATE).stat().st_mtime_ns
                if stamp == self._stamps.get(agent):
                    continue
                state = Home(folder).load()
            except (HomeError, OSError):
                continue
            self._stamps[agent] = stamp
            for round, outbox in (state.outbox if state else {}).items():
                data = outbox.get(OWN)
                if data is not None and self.envelopes.setdefault((agent, round), data) != data:
                    self.changed.append((agent, round))


@dataclass
class Books:
    """What an agent's home says it has had. `lost`: updates of others that were made and that it has not had."""

    round: int
    counted: int
    lost: list[tuple[int, int]]
    exact: bool


def balance(watch: Watch) -> dict[int, Books]:
    """Every agent's books against the envelopes. Raises HomeError where a home is lost."""
    states = {agent: _state(folder) for agent, folder in watch.homes.items()}
    units = _units(watch, states)
    return {agent: _books(agent, state, units) for agent, state in states.items()}


def merged_once(history: Path, watch: Watch) -> dict[int, tuple[int, int]]:
    """Agent -> (updates it reported as merged, in all, and updates of others there were): the first is never more."""
    merged: dict[int, int] = dict.fromkeys(watch.homes, 0)
    events: dict[tuple[Any, ...], dict[str, Any]] = {}
    for line in history.read_text().splitlines():
        event = json.loads(line)
        events[event["kind"], event["round"], event["agent"], event.get("own", 0)] = event
    for event in events.values():
        if event["kind"] in ("train", "evaluate"):
            merged[event["agent"]] += int(event["metrics"].get("merged", 0))
    return {
        agent: (count, sum(author != agent for author, _ in watch.envelopes))
        for agent, count in merged.items()
    }


def _state(folder: Path) -> State:
    state = Home(folder).load()
    if state is None:
        raise HomeError(f"{folder}: empty")
    return state


def _units(watch: Watch, states: dict[int, State]) -> dict[tuple[int, int], tuple[np.ndarray, np.ndarray]]:
    """(agent, round) -> indices and whole numbers of its update, opened and checked like by any receiver."""
    founding = Home(watch.homes[0]).founding()
    recipe = recipe_from_json(founding["recipe_json"])
    policy = recipe_policy(recipe)
    stranger = Exchange(
        bytes(32),
        0,
        recipe,
        founding["run"],
        policy.base.digest,
        policy.layout,
        policy.initial(recipe.seed),
        {},
    )
    dids = {int(number): did for state in states.values() for number, did in state.roster.items()}
    found = {}
    for (agent, round), data in watch.envelopes.items():
        update = open_envelope(data, Expectation(stranger.session, [dids[agent]]))
        assert update.round == round, (agent, round, update.round)
        found[agent, round] = update.indices, to_grid(update.values)
    return found


def _books(agent: int, state: State, units: dict[tuple[int, int], tuple[np.ndarray, np.ndarray]]) -> Books:
    seen = ReplayWindow(0)
    seen.load_state(state.arrays["rule/seen"])
    total = np.zeros_like(state.arrays["rule/pool/total"])
    had = [key for key in units if not seen.is_new(*key)]
    for key in had:
        indices, values = units[key]
        total[indices] += values
    lost = sorted(set(units) - set(had))
    return Books(state.round, len(had), lost, bool((total == state.arrays["rule/pool/total"]).all()))
