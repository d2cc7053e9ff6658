"""The ServerApp's rounds over Flower's real grid, in this process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from empty_store import empty_store
from flwr.serverapp import Grid
from loopback import Loopback

from clients.protocol.messages import pack_greeting
from strategies import server_app
from strategies.roster import Roster
from symphony_fl.config.options import Recipe
from symphony_fl.metrics.history import History
from symphony_fl.tracking.tracker import Tracker

Play = Callable[..., History]


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One store for all tests of a module."""
    return empty_store(tmp_path_factory.mktemp("mlflow"))


@pytest.fixture
def play(tmp_path: Path, uri: str) -> Play:
    """play(recipe, loop) -> history: the ServerApp's rounds, on nodes that are there already."""

    def rounds(
        recipe: Recipe, loop: Loopback, name: str = "run", around: Callable[[Grid], Grid] = lambda grid: grid
    ) -> History:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        history = History(folder / "history.jsonl")
        tracker = Tracker(uri, recipe, name, folder)
        greeting = pack_greeting(name, recipe)
        with loop.working() as grid:
            roster = Roster(recipe.agents, greeting)
            server_app._rounds(around(grid), server_app.Run(recipe, name, folder), roster, history, tracker)
        return history

    return rounds
