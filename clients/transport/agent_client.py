"""The ClientApp's end of the socket: pass a message's content to the agent process and return its answer.

`symphony up` restarts an agent process that dies within seconds. A message it had not answered is sent again. That is
safe: rounds are asked for by number and mail is merged once, so requests are idempotent.
"""

from __future__ import annotations

import time
from logging import WARNING
from pathlib import Path

from flwr.app import RecordDict
from flwr.common import log

from clients.protocol.content import from_bytes, to_bytes
from symphony_fl.edge.frames import OK, Disconnected, FrameError, connect, receive_frame, send_frame
from symphony_fl.errors import LocalError, PublicError

PATIENCE = 180.0  # seconds an agent process may be away: killed, noticed, started again, libraries loaded
PAUSE = 0.2  # seconds between attempts
ATTEMPTS = 5  # a message over which the agent process dies that often is given up


class AgentAway(LocalError, RuntimeError):
    """No agent process answers at the socket."""


class AgentRefused(PublicError, RuntimeError):
    """The agent process could not answer the message; says why, in words that may leave the device."""


def call_agent(path: Path, kind: str, content: RecordDict, patience: float = PATIENCE) -> RecordDict:
    """The agent process's answer to a message.

    Raises
    ------
    AgentAway
        No process listened at `path` for `patience` seconds, or it died over this message ATTEMPTS times.
    AgentRefused
        It answered that it cannot; the message carries its reason.
    FrameError
        The socket is not private, or another user's process answers there.
    """
    data = to_bytes(content)
    deadline = time.monotonic() + patience
    lost = 0
    while True:
        try:
            word, body = _ask(path, kind, data)
            break
        except OSError as error:
            if isinstance(error, FrameError) and not isinstance(error, Disconnected):
                raise
            if not isinstance(error, FileNotFoundError | ConnectionRefusedError):
                lost += 1
                log(
                    WARNING,
                    "the agent process went away over a %s message (%s); handing it over again",
                    kind,
                    error,
                )
                deadline = time.monotonic() + patience
            if lost >= ATTEMPTS or time.monotonic() > deadline:
                raise AgentAway(
                    f"{path}: no answer from an agent process ({error})",
                    "no answer from the device's agent process",
                ) from None
            time.sleep(PAUSE)
    if word != OK:
        raise AgentRefused(body.decode(errors="replace"))
    return from_bytes(body)


def _ask(path: Path, kind: str, data: bytes) -> tuple[str, bytes]:
    """No limit on how long learning takes: a process that hangs is killed by its watchdog, and the connection ends."""
    with connect(path, timeout=None) as connection:
        send_frame(connection, kind, data)
        return receive_frame(connection)
