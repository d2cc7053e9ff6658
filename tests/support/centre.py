"""A whole centralized run in one process: the real strategy, recorder, homes and agents, without Flower's nodes.

`Network.tamper` stands between a worker and the server: what it makes of a reply's outbox is what arrives.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path

from at_once import AtOnce
from empty_store import empty_store
from flwr.app import ArrayRecord, ConfigRecord, Error, Message
from flwr.supercore.task_identity import TaskIdentity

from clients.home.home import Home
from clients.protocol.messages import OUTBOX, pack_envelopes, pack_greeting, unpack_envelopes
from clients.service.service import Service
from strategies.build import build_strategy
from strategies.recorder import Recorder
from strategies.roster import Roster
from strategies.server_app import _evaluate_before, _finished
from symphony_fl.build.checks import check_recipe
from symphony_fl.config.options import Recipe
from symphony_fl.config.recipe import load_recipe
from symphony_fl.metrics.history import History
from symphony_fl.tracking.tracker import Tracker

Tamper = Callable[[int, int, dict[str, bytes]], dict[str, bytes]]  # (agent, step, outbox) -> outbox


class Network(AtOnce):
    """A grid whose nodes are services in this process; node n + 1 is agent n. `lasting`: homes stay open between
    messages, which a simulation's do not."""

    def __init__(self, recipe: Recipe, folder: Path, lasting: bool = True) -> None:
        super().__init__()
        TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 1, 1
        self.recipe = recipe
        self.folder = folder
        self.services = [
            Service(n, lambda run, n=n: Home(folder / "agents" / str(n)), lasting=lasting)
            for n in range(recipe.agents)
        ]
        self.away: set[int] = set()
        self.tamper: Tamper = lambda agent, step, outbox: outbox

    def get_node_ids(self) -> list[int]:
        return [n + 1 for n in range(self.recipe.agents) if n not in self.away]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:
        return [self.answer(message) for message in messages]

    def close(self) -> None:
        for service in self.services:
            service.close()

    def answer(self, message: Message) -> Message:
        agent = message.metadata.dst_node_id - 1
        if agent in self.away:
            return Message(Error(5, "gone"), reply_to=message)
        kind = message.metadata.message_type.removeprefix("query.")
        content = self.services[agent].answer(kind, message.content)
        if kind == "train":
            step = int(message.content.config_records["config"]["server-round"])
            outbox = self.tamper(agent, step, unpack_envelopes(content, OUTBOX))
            content[OUTBOX] = pack_envelopes(outbox)
        return Message(content, reply_to=message)


@cache
def _tracking() -> tempfile.TemporaryDirectory[str]:
    """One store for all runs of the process."""
    folder = tempfile.TemporaryDirectory()
    empty_store(Path(folder.name))
    return folder


def play(network: Network, steps: int | None = None) -> History:
    """The recipe's steps, or that many more of them, through the real strategy; the run's books."""
    recipe, folder = network.recipe, network.folder
    history = History(folder / "history.jsonl")
    tracker = Tracker(f"sqlite:///{_tracking().name}/mlflow.db", recipe, "a-run", folder)
    greeting = pack_greeting("a-run", recipe)
    roster = Roster(recipe.agents, greeting)
    roster.gather(network, timeout=10.0, least=recipe.agents - len(network.away))  # type: ignore[arg-type]
    recorder = Recorder(
        history,
        tracker,
        agents=recipe.agents,
        rounds=recipe.rounds,
        evaluate_every=recipe.tasks.evaluate_every,
        skills=recipe.tasks.skills,
    )
    config = ConfigRecord({"run": "a-run", "digest": recipe.digest})
    finished = _finished(recipe, roster, history)
    if not finished:
        _evaluate_before(network, roster, recorder, config, recipe)  # type: ignore[arg-type]
    strategy = build_strategy(recipe, roster, recorder, finished)
    left = recipe.rounds - finished
    strategy.start(
        grid=network,  # type: ignore[arg-type]
        initial_arrays=ArrayRecord(),
        num_rounds=left if steps is None else min(steps, left),
        train_config=config,
        evaluate_config=config,
    )
    tracker.finish("FINISHED")
    history.close()
    return history


def whole(folder: Path, name: str, *overrides: str) -> tuple[Network, History]:
    """A run of a recipe from its beginning to its end."""
    folder.mkdir(parents=True, exist_ok=True)
    network = Network(check_recipe(load_recipe(name, ("tracking.agents=false", *overrides))), folder)
    history = play(network)
    network.close()
    return network, history
