"""A device without Flower: its agent process, really started, and the messages a server would send it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flwr.app import ConfigRecord, RecordDict

from clients.protocol.messages import CONFIG, MAIL, NONCE, ROUND, pack_envelopes, pack_greeting
from symphony_fl.config.options import Recipe
from symphony_fl.edge.frames import HEALTH, connect, receive_frame, send_frame

RUN = "a-run"


def start_agent(folder: Path, number: int, *options: str) -> subprocess.Popen[bytes]:
    """`python -m clients.service.agent_process`, answering."""
    folder.mkdir(mode=0o700, exist_ok=True)
    command = [
        sys.executable,
        "-m",
        "clients.service.agent_process",
        "--device",
        str(folder),
        "--number",
        str(number),
        *options,
    ]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([os.getcwd(), os.environ.get("PYTHONPATH", "")])
    }
    with (folder / "agent.log").open("ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
    while process.poll() is None:
        try:
            health(folder)
            return process
        except OSError:
            time.sleep(0.05)
    raise AssertionError((folder / "agent.log").read_text()[-3000:])


def health(folder: Path) -> dict[str, Any]:
    """The process's own word on how it is."""
    with connect(folder / "agent.sock", timeout=5.0) as connection:
        send_frame(connection, HEALTH, b"")
        word, body = receive_frame(connection)
    assert word == "ok"
    values: dict[str, Any] = json.loads(body)
    return values


def greeting(recipe: Recipe, run: str = RUN) -> RecordDict:
    """What the server's hello holds."""
    return RecordDict({CONFIG: ConfigRecord({**pack_greeting(run, recipe), NONCE: bytes(16)})})


def order(
    recipe: Recipe, round: int, mail: Mapping[str, bytes], roster: Mapping[int, str], run: str = RUN
) -> RecordDict:
    """What a train or evaluate message holds."""
    config = {"run": run, "digest": recipe.digest, ROUND: round, "roster": json.dumps(dict(roster))}
    return RecordDict({CONFIG: ConfigRecord(config), MAIL: pack_envelopes(mail)})
