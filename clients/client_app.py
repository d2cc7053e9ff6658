"""The node's face: four messages, each opening the agent's home, doing one thing and answering.

The straight line of one update runs through `train`: see `Agent` for the steps.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from logging import WARNING
from pathlib import Path

_APP_FOLDER = Path(__file__).resolve().parent.parent
if os.path.basename(sys.argv[0]) == "flwr-simulation":
    # Simulated ClientApps import from the local SuperLink's working folder ahead of this bundle: with two
    # checkouts on one machine, the other one's code would run. The first import of ours decides, so do it here.
    os.chdir(_APP_FOLDER)
    sys.path.insert(0, str(_APP_FOLDER))

from flwr.app import ConfigRecord, Context, Message, RecordDict  # noqa: E402
from flwr.clientapp import ClientApp  # noqa: E402
from flwr.common import log  # noqa: E402

from clients.agent import Agent  # noqa: E402
from clients.home import Home  # noqa: E402
from clients.messages import (  # noqa: E402
    ARRAYS,
    CONFIG,
    MAIL,
    OUTBOX,
    ROTATIONS,
    ROUND,
    MessageError,
    config_value,
    pack_adapter,
    pack_envelopes,
    pack_report,
    unpack_adapter,
    unpack_envelopes,
    unpack_roster,
    unpack_rotations,
)
from symphony_fl.components import check_recipe  # noqa: E402
from symphony_fl.folders import home_folder, run_folder  # noqa: E402
from symphony_fl.recipe import RecipeError, recipe_from_json  # noqa: E402

app = ClientApp()


@app.query("hello")
def hello(message: Message, context: Context) -> Message:
    """Introduce the agent: number, did:key, base model, rounds finished, and envelopes a stopped server lost."""
    number = int(context.node_config["partition-id"])
    recipe_json = config_value(message.content, "recipe", str)
    recipe = check_recipe(recipe_from_json(recipe_json))
    if number >= recipe.agents:  # a spare node: it has no part in this run, hence no home
        return _reply(message, RecordDict({CONFIG: ConfigRecord({"agent": number})}))
    home = _home(context)
    with home.locked():
        home.found(config_value(message.content, "run", str), recipe_json)
    with _agent(message, context) as agent:
        introduction = ConfigRecord(
            {"agent": number, "did": agent.did, "base": agent.base_digest, "round": agent.state.round}
        )
        rotations = agent.home.rotations()
        if rotations:
            introduction[ROTATIONS] = rotations
        outbox = {
            f"{number}/{label}": data
            for number, envelopes in agent.state.outbox.items()
            for label, data in envelopes.items()
        }
        content = RecordDict({CONFIG: introduction, OUTBOX: pack_envelopes(outbox)})
    return _reply(message, content)


@app.query("adapter")
def adapter(message: Message, context: Context) -> Message:
    """The agent's adapter as it stands: FedAvg's starting point."""
    with _agent(message, context) as agent:
        return _reply(message, RecordDict({ARRAYS: pack_adapter(agent.give())}))


@app.train()
def train(message: Message, context: Context) -> Message:
    """One round: merge what came, improve, and hand over what is shared."""
    with _agent(message, context) as agent:
        _receive(agent, message)
        report = agent.train(config_value(message.content, ROUND, int))
        content = RecordDict(pack_report(report.averaged, report.details()))
        if ARRAYS in message.content:  # FedAvg: the adapter itself goes back, for the server to average
            content[ARRAYS] = pack_adapter(agent.give())
        else:
            content[OUTBOX] = pack_envelopes(report.outbox)
        return _reply(message, content)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Merge what came, then answer the held-out tasks of all skills."""
    with _agent(message, context) as agent:
        _receive(agent, message)
        report = agent.evaluate(config_value(message.content, ROUND, int))
        return _reply(message, RecordDict(pack_report(report.averaged, report.details())))


def _receive(agent: Agent, message: Message) -> None:
    if ARRAYS in message.content:
        agent.adopt(unpack_adapter(message.content.array_records[ARRAYS]))
    else:
        roster = unpack_roster(message.content)
        try:
            mail = unpack_envelopes(message.content, MAIL)
        except MessageError as error:  # whoever carries the mail can lose it, and no more than that
            log(WARNING, "agent %d: mail refused: %s", agent.number, error)
            agent.metrics["refused/message"] = 1.0
            mail = {}
        agent.merge(mail, roster, unpack_rotations(message.content))


@contextmanager
def _agent(message: Message, context: Context) -> Iterator[Agent]:
    """The agent of this node, opened from its home, which nobody else may use meanwhile."""
    home = _home(context)
    with home.locked():
        founding = home.founding()
        recipe = recipe_from_json(founding["recipe_json"])
        for key, ours in (("run", founding["run"]), ("digest", recipe.digest)):
            theirs = config_value(message.content, key, str)
            if theirs != ours:
                raise RecipeError(f"{key} = {theirs!r}: this agent belongs to {ours!r}")
        agent = Agent(home, int(context.node_config["partition-id"]), recipe, founding["run"])
        try:
            yield agent
        finally:
            agent.close()


def _home(context: Context) -> Home:
    """On a device the SuperNode's --node-config names the home; simulated ones lie under the run's folder."""
    named = context.node_config.get("home")
    if named:
        return Home(Path(str(named)).expanduser())
    run = run_folder(str(context.run_config["run-dir"]), context.run_id)
    return Home(home_folder(run, int(context.node_config["partition-id"])))


def _reply(message: Message, content: RecordDict) -> Message:
    return Message(content, reply_to=message)
