"""A device without Flower: its agent process, really started, and the messages a server would send it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import agent_template
from flwr.app import ConfigRecord, RecordDict

from clients.protocol.messages import CONFIG, MAIL, NONCE, ROUND, pack_envelopes, pack_greeting
from symphony_fl.config.options import Recipe
from symphony_fl.edge.frames import HEALTH, connect, receive_frame, send_frame

RUN = "a-run"


class Process(Protocol):
    """What tests do with an agent process."""

    def poll(self) -> int | None: ...

    def kill(self) -> None: ...

    def send_signal(self, sig: int) -> None: ...

    def wait(self, timeout: float | None = None) -> int | None: ...


def start_agent(folder: Path, number: int, *options: str) -> subprocess.Popen[bytes]:
    """`python -m clients.service.agent_process`, answering."""
    arguments, log = _prepare(folder, number, options)
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([os.getcwd(), os.environ.get("PYTHONPATH", "")])
    }
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "clients.service.agent_process", *arguments],
            stdout=output,
            stderr=output,
            env=environment,
        )
    _await_answer(process, folder)
    return process


def fork_agent(folder: Path, number: int, *options: str) -> Process:
    """The same, forked from a process that has loaded torch and the model (`agent_template.py`)."""
    arguments, log = _prepare(folder, number, options)
    process = agent_template.fork_agent(arguments, log)
    _await_answer(process, folder)
    return process


def _prepare(folder: Path, number: int, options: tuple[str, ...]) -> tuple[list[str], Path]:
    """Arguments and log of an agent process."""
    folder.mkdir(mode=0o700, exist_ok=True)
    return ["--device", str(folder), "--number", str(number), *options], folder / "agent.log"


def _await_answer(process: Process, folder: Path) -> None:
    while process.poll() is None:
        try:
            health(folder)
            return
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
