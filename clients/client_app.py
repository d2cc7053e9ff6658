"""The node's face: Flower's messages in, answers out.

On a device the node's configuration names the `socket` of a lasting agent process (`agent_process.py`), and this app
only hands mail over: Flower may start it anew for every message, so it loads no model. In simulation there is no such
process, and the service answers right here.
"""

from __future__ import annotations

import gc
import os
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

_APP_FOLDER = Path(__file__).resolve().parent.parent
if os.path.basename(sys.argv[0]) == "flwr-simulation":
    # Simulated ClientApps import from the local SuperLink's working folder ahead of this bundle: with two
    # checkouts on one machine, the other one's code would run. The first import of ours decides, so do it here.
    os.chdir(_APP_FOLDER)
    sys.path.insert(0, str(_APP_FOLDER))

    # And the last moment before Ray starts: in this thread, right after this module is loaded.
    from clients.flower_patches.ray_security import secure_ray

    secure_ray()

from flwr.app import Context, Message, RecordDict  # noqa: E402
from flwr.clientapp import ClientApp  # noqa: E402

from clients.protocol.error_replies import NodeError, on_device, refusing  # noqa: E402
from clients.protocol.multiplex import each_agent  # noqa: E402
from clients.transport.agent_client import call_agent  # noqa: E402
from symphony_fl.config.allowed import Allowed  # noqa: E402
from symphony_fl.storage.folders import home_folder, run_folder  # noqa: E402

if TYPE_CHECKING:
    from clients.service.service import Service

app = ClientApp(mods=[refusing, each_agent, refusing])  # around all, and around each


@app.query("hello")
def hello(message: Message, context: Context) -> Message:
    """Introduce the agent."""
    return _answer("hello", message, context)


@app.query("adapter")
def adapter(message: Message, context: Context) -> Message:
    """The agent's adapter as it stands: FedAvg's starting point."""
    return _answer("adapter", message, context)


@app.train()
def train(message: Message, context: Context) -> Message:
    """One round: merge the mail received, train, and return what is shared."""
    return _answer("train", message, context)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Merge what came, then answer the held-out tasks of all skills."""
    return _answer("evaluate", message, context)


def _answer(kind: str, message: Message, context: Context) -> Message:
    socket = context.node_config.get("socket")
    if socket:
        content = call_agent(Path(str(socket)), kind, message.content)
    else:
        content = _answer_here(kind, message.content, context)
    return Message(content, reply_to=message)


@cache
def _service() -> type[Service]:
    """Loads torch. What is loaded stays: looking through it for garbage meanwhile takes a sixth of the time."""
    gc.disable()
    try:
        from clients.service.service import Service
    finally:
        gc.freeze()
        gc.enable()
    return Service


def _answer_here(kind: str, content: RecordDict, context: Context) -> RecordDict:
    Service = _service()
    number = int(context.node_config["partition-id"])
    named = context.node_config.get("home")
    if named:
        home = Path(str(named)).expanduser()
    elif on_device(context):  # else the author of a run could choose a folder on this device
        raise NodeError("node-config: must name the socket of an agent process, or a home")
    else:
        home = home_folder(run_folder(str(context.run_config["run-dir"]), context.run_id), number)
    allowed = Allowed() if on_device(context) else None
    return Service.in_process(number, home, allowed).answer(kind, content)
