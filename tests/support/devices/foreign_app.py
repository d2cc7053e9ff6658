"""An app of an attacker who may start runs: whatever loads its modules leaves a mark; its ServerApp asks every node.

make(folder, name, marks, replies) writes it; `name` may be that of Symphony-FL itself.
"""

from __future__ import annotations

from pathlib import Path

PROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
[project]
name = "{name}"
version = "0.1.0"
[tool.flwr.app]
publisher = "{publisher}"
[tool.flwr.app.components]
serverapp = "foreign_server:app"
clientapp = "foreign_client:app"
[tool.flwr.app.config]
recipe = "given_tasks"
"""
CLIENT = """
from pathlib import Path
Path({marks!r}).joinpath("imported").touch()
from flwr.clientapp import ClientApp
app = ClientApp()
@app.query("hello")
def hello(message, context):
    Path({marks!r}).joinpath("ran").touch()
    return message
"""
SERVER = """
import json, time
from pathlib import Path
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.serverapp import ServerApp
app = ServerApp()
@app.main()
def main(grid, context):
    while not (nodes := list(grid.get_node_ids())):
        time.sleep(0.2)
    messages = [Message(RecordDict({{"config": ConfigRecord({{"run": "x"}})}}), node, "query.hello") for node in nodes]
    replies = [(r.has_error(), r.error.reason if r.has_error() else "") for r in grid.send_and_receive(messages)]
    Path({replies!r}).write_text(json.dumps(replies))
"""


def make(folder: Path, fab_id: str, marks: Path, replies: Path) -> Path:
    """The app of that `publisher/name`, in `folder`."""
    publisher, name = fab_id.split("/")
    folder.mkdir()
    marks.mkdir(exist_ok=True)
    (folder / "pyproject.toml").write_text(PROJECT.format(name=name, publisher=publisher))
    (folder / "foreign_client.py").write_text(CLIENT.format(marks=str(marks)))
    (folder / "foreign_server.py").write_text(SERVER.format(replies=str(replies)))
    return folder
