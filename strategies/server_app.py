"""The ServerApp: gather the agents of a recipe, run the strategy's rounds, write the results."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from logging import INFO
from pathlib import Path

from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MessageType, RecordDict
from flwr.common import log
from flwr.serverapp import Grid, ServerApp

from clients.flower_patches.tls_retry import patient
from clients.protocol.messages import ARRAYS, CONFIG, ROUND, pack_greeting
from strategies.build import build_strategy
from strategies.grids.multiplex import MultiplexGrid
from strategies.grids.per_message import PerMessageGrid
from strategies.grids.progress import ProgressGrid
from strategies.grids.retry import RetryGrid
from strategies.recorder import Recorder
from strategies.results import publish
from strategies.roster import Roster
from symphony_fl.build.asynchrony import last_round
from symphony_fl.build.centralized import TRAINER, is_centralized
from symphony_fl.build.checks import check_recipe
from symphony_fl.config.options import Recipe
from symphony_fl.config.recipe import RecipeError, load_recipe
from symphony_fl.launch.runtime import FLOWER
from symphony_fl.launch.watchdog import die_with_launcher
from symphony_fl.metrics.history import History
from symphony_fl.storage.folders import (
    closed_run_folder,
    default_tracking_uri,
    keep_private,
    locked,
    run_folder,
    write_atomically,
    write_json,
)
from symphony_fl.tracking.tracker import Tracker

ADAPTER_QUERY = "query.adapter"
CLAIM_SECONDS = 30.0  # a run that was just killed may need some to be gone

app = ServerApp()


@dataclass(frozen=True)
class Run:
    """One run: a recipe, a name, the folder that holds all of it, and the way it goes (`launch/runtime.py`)."""

    recipe: Recipe
    name: str
    folder: Path
    runtime: str = FLOWER


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Entry point of `flwr run`."""
    from flwr.superlink.grid.http_grid import HttpGrid  # there already; a run in-process has no use for it

    keep_private()
    config = context.run_config
    recipe = check_recipe(load_recipe(str(config["recipe"]), shlex.split(str(config["overrides"]))))
    folder = run_folder(str(config["run-dir"]), context.run_id)
    closed_run_folder(folder)
    die_with_launcher()
    run = Run(recipe, folder.name, folder)
    with claimed(run):
        if isinstance(
            grid, HttpGrid
        ):  # devices; the grid of a simulation has neither connections nor uploads
            patient(grid._retry_invoker)  # noqa: SLF001
            watched = ProgressGrid(PerMessageGrid(grid), recipe.rounds)
            run_rounds(RetryGrid(watched, most=recipe.limits.round_timeout), run)
        else:
            run_rounds(one_node_each(grid, recipe), run)


def one_node_each(grid: Grid, recipe: Recipe) -> Grid:
    """The grid of a run on this machine, on which every agent has a node and answers are counted."""
    if recipe.agents_per_node > 1:
        grid = MultiplexGrid(grid, recipe.agents_per_node)
    return ProgressGrid(grid, recipe.rounds)


def run_rounds(grid: Grid, run: Run) -> None:
    """All of a run whose folder is claimed, to its result."""
    recipe, folder = run.recipe, run.folder
    log(INFO, "symphony: recipe %s (digest %s), folder %s", recipe.name, recipe.digest, folder)
    history = History(folder / "history.jsonl")
    tracker = Tracker(recipe.tracking.uri or default_tracking_uri(), recipe, run.name, folder)
    greeting = pack_greeting(run.name, recipe)
    roster = Roster(recipe.agents, greeting, last_round(recipe))
    started = time.monotonic()
    try:
        _rounds(grid, run, roster, history, tracker)
    except BaseException as error:
        publish(run.runtime, recipe, folder, roster, history, tracker, time.monotonic() - started, error)
        raise
    publish(run.runtime, recipe, folder, roster, history, tracker, time.monotonic() - started)


def _rounds(grid: Grid, run: Run, roster: Roster, history: History, tracker: Tracker) -> None:
    recipe = run.recipe
    roster.gather(grid, recipe.limits.wait_for_nodes, recipe.async_gossip.start_with)
    write_json(run.folder / "agents.json", roster.summary())
    for member in roster.members():
        tracker.tag_agent(member.agent, {"did": member.did, "base": member.base})
    recorder = Recorder(
        history,
        tracker,
        agents=recipe.agents,
        rounds=recipe.rounds,
        evaluate_every=recipe.tasks.evaluate_every,
        skills=recipe.tasks.skills,
        direct=recipe.exchange.transport != "superlink",
    )
    finished = _finished(recipe, roster, history)
    config = ConfigRecord({"run": run.name, "digest": recipe.digest})
    if finished:
        log(INFO, "symphony: resuming after round %d", finished)
    elif 0 not in history.rounds("evaluate"):  # a run killed in its first round has it already
        _evaluate_before(grid, roster, recorder, config, recipe)
    if finished >= recipe.rounds and _evaluated(history, recipe):
        log(INFO, "symphony: all %d rounds are already done", recipe.rounds)
        return
    # A run stopped between its last training and its last evaluation repeats that round: agents that have
    # finished it answer from their homes without training again.
    finished = min(finished, recipe.rounds - 1)
    strategy = build_strategy(recipe, roster, recorder, finished)
    strategy.start(
        grid=grid,
        initial_arrays=_initial_arrays(grid, roster, recipe, config),
        num_rounds=recipe.rounds - finished,
        timeout=recipe.limits.round_timeout,
        train_config=config,
        evaluate_config=config,
    )
    last = 1 if recipe.asynchronous else recipe.rounds
    if max(history.rounds("train"), default=0) < last:
        why = recorder.first_failure or "no answer came"
        raise NoRoundError(f"no agent finished round {last}; the first failure: {why}")


class NoRoundError(RuntimeError):
    """A run whose last round no agent finished; the message says why the first one failed."""


def _finished(recipe: Recipe, roster: Roster, history: History) -> int:
    """Rounds the network has finished.

    With a round barrier: those of its slowest agent, but at least all before the newest one recorded, since agents
    that were away have missed those. Without a barrier: the mean of the rounds recorded. Where one agent trains: its
    steps.
    """
    if is_centralized(recipe):
        return roster.members()[TRAINER].round
    if not recipe.asynchronous:
        booked = max(history.rounds("train"), default=0)
        return max(min(member.round for member in roster.members()), booked - 1)
    return sum(map(len, history.own_rounds().values())) // recipe.agents


def _evaluate_before(
    grid: Grid, roster: Roster, recorder: Recorder, config: ConfigRecord, recipe: Recipe
) -> None:
    """Held-out accuracy of the starting point of every agent that trains, recorded as round 0."""
    config = ConfigRecord({**config, ROUND: 0, **roster.introduction()})
    messages = [
        Message(RecordDict({CONFIG: config}), member.node, MessageType.EVALUATE)
        for member in roster.present()
        if member.agent == TRAINER or not is_centralized(recipe)
    ]
    for reply in grid.send_and_receive(messages, timeout=recipe.limits.round_timeout):
        agent = roster.agent_of(reply.metadata.src_node_id)
        if agent is not None:
            recorder.report("evaluate", 0, agent, reply)
    recorder.round_finished(0)


def _initial_arrays(grid: Grid, roster: Roster, recipe: Recipe, config: ConfigRecord) -> ArrayRecord:
    """FedAvg's first global adapter, asked of one agent since all draw the same; gossip has none."""
    if recipe.strategy.name != "fedavg":
        return ArrayRecord()
    first = roster.members()[0]
    message = Message(RecordDict({CONFIG: config}), first.node, ADAPTER_QUERY)
    (reply,) = grid.send_and_receive([message], timeout=recipe.limits.round_timeout)
    if reply.has_error():
        raise RuntimeError(f"agent {first.agent} could not give its adapter: {reply.error.reason}")
    return reply.content.array_records[ARRAYS]


def _evaluated(history: History, recipe: Recipe) -> bool:
    return recipe.rounds in history.rounds("evaluate")


@contextmanager
def claimed(run: Run) -> Iterator[None]:
    """A folder belongs to one recipe, and to one process at a time.

    Raises
    ------
    RecipeError
        The folder holds a run of another recipe, or another process works in it.
    """
    path = run.folder / "recipe.json"
    with locked(
        run.folder / "run.lock",
        CLAIM_SECONDS,
        RecipeError(f"run-dir = {str(run.folder)!r}: another process works in this folder"),
    ):
        if not path.exists():
            write_atomically(path, run.recipe.to_json().encode())
        elif path.read_text() != run.recipe.to_json():
            raise RecipeError(f"run-dir = {str(run.folder)!r}: holds a run of another recipe")
        yield
