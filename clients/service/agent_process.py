"""The agent process: lives beside a device's SuperNode and owns the model, the homes and the memory.

    python -m clients.service.agent_process --device FOLDER --number N

    FOLDER/key, peers.json    the agent's identity and its owner's demands on every run
    FOLDER/homes/<run>/       a home per run it takes part in (`homes.py`, `home.py`)
    FOLDER/agent.sock         where the ClientApp delivers messages (`frames.py`)

Where a run's agents exchange mail directly, neighbours also reach it over QUIC (`endpoint.py`).

All work runs in the main thread: it answers messages one after another, and between them works ahead where the run
allows it. Other threads only carry frames, so a health check is answered even during training. SIGTERM and SIGKILL
abandon the round in progress; the home is at its last whole round at every instant.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import select
import signal
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from logging import ERROR, INFO, WARNING
from pathlib import Path
from types import FrameType
from typing import Any

from flwr.common import log

from clients.home.founding import HomeError
from clients.home.homes import Homes
from clients.protocol.content import from_bytes, to_bytes
from clients.service.service import Service
from clients.transport.endpoint import Endpoint
from symphony_fl import __version__
from symphony_fl.build.components import agent_skills
from symphony_fl.config.allowed import Allowed
from symphony_fl.edge.frames import ERROR as REFUSED
from symphony_fl.edge.frames import HEALTH, OK, FrameError, check_peer, check_place, receive_frame, send_frame
from symphony_fl.errors import new_reference, told
from symphony_fl.storage.folders import locked

CONNECTIONS = 8  # served at a time
FRAME_SECONDS = 60.0  # for a whole frame to arrive or leave
LOCK_SECONDS = 10.0  # a predecessor may still be on its way out
LOOK_SECONDS = 1.0  # between two checks whether the requester is still connected
IDLE_SECONDS = 0.5  # how often an idle agent looks whether there is something to work ahead


@dataclass
class Request:
    """A message on its way to the working thread, and the answer on its way back: (word, body). `gone`: the requester
    has disconnected."""

    kind: str
    body: bytes
    gone: bool = False
    answer: queue.Queue[tuple[str, bytes]] = field(default_factory=lambda: queue.Queue(1))


class AgentProcess:
    """Serves one agent on a Unix socket until it is told to stop.

    Parameters
    ----------
    device : the device's folder
    number : the agent's number
    endpoint : makes the endpoint of that private key, for runs with exchange.transport=iroh
    allowed : what a recipe may name of this device
    """

    def __init__(
        self, device: Path, number: int, endpoint: Callable[[bytes], Endpoint], allowed: Allowed
    ) -> None:
        self.device = device
        homes = Homes(device)
        self.service = Service(number, homes.home_of, lasting=True, endpoint=endpoint, allowed=allowed)
        self._requests: queue.Queue[Request] = queue.Queue()  # those of lost requesters are empty
        self._places = threading.BoundedSemaphore(CONNECTIONS)
        self._started = time.monotonic()
        self._busy: tuple[str, float] | None = None
        self._counts = {"messages": 0, "errors": 0, "rounds_ahead": 0}
        self._agent: dict[str, Any] = {}

    def serve(self) -> None:
        """Answer until SystemExit, which SIGTERM raises."""
        path = self.device / "agent.sock"
        check_place(path)
        taken = HomeError(
            f"{self.device}: another agent process serves this device, or its key is being changed"
        )
        with (
            locked(self.device / "home.lock", LOCK_SECONDS, taken),
            socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener,
        ):
            _listen(listener, path)
            threading.Thread(target=self._accept, args=(listener,), name="accept", daemon=True).start()
            log(INFO, "agent process: agent %d listens at %s", self.service.number, path)
            try:
                while True:
                    self._work()
            finally:
                path.unlink(missing_ok=True)
                self.service.stop()

    def health(self) -> dict[str, Any]:
        """What a watchdog and `symphony status` want to know."""
        busy = self._busy
        return {
            "pid": os.getpid(),
            "agent": self.service.number,
            "version": __version__,
            "seconds": round(time.monotonic() - self._started, 1),
            "busy": "" if busy is None else busy[0],
            "busy_seconds": 0.0 if busy is None else round(time.monotonic() - busy[1], 1),
            **self._counts,
            **self._agent,
        }

    def _work(self) -> None:
        try:
            request = self._requests.get(timeout=IDLE_SECONDS)
        except queue.Empty:
            self._work_ahead()
            return
        if request.gone:
            return
        self._busy = (request.kind, time.monotonic())
        try:
            request.answer.put((OK, to_bytes(self.service.answer(request.kind, from_bytes(request.body)))))
        except Exception as error:  # every message gets an answer; the next one may well be answerable
            reference = new_reference()
            log(ERROR, "agent process: %s refused (%s)", request.kind, reference, exc_info=error)
            self._counts["errors"] += 1
            request.answer.put((REFUSED, told(error, reference).encode()))
        self._counts["messages"] += 1
        log(INFO, "agent process: %s answered in %.2f s", request.kind, time.monotonic() - self._busy[1])
        self._describe()

    def _work_ahead(self) -> None:
        self._busy = ("ahead", time.monotonic())
        try:
            self._counts["rounds_ahead"] += self.service.ahead()
        except Exception as error:  # the server will ask for this round, and be told
            log(ERROR, "agent process: working ahead failed", exc_info=error)
            self._counts["errors"] += 1
        self._describe()

    def _describe(self) -> None:
        """Facts about the agent as of now, read by other threads."""
        agent = self.service.agent
        if agent is not None:
            self._agent = {
                "run": self.service.run,
                "recipe": agent.recipe.name,
                "did": agent.did,
                "round": agent.state.round,
                "skills": list(agent_skills(agent.recipe, agent.number)),
            }
        self._busy = None

    def _accept(self, listener: socket.socket) -> None:
        while True:
            self._places.acquire()
            try:
                connection, _ = listener.accept()
            except OSError:
                return  # the listener is closed: the process ends
            threading.Thread(target=self._carry, args=(connection,), name="carry", daemon=True).start()

    def _carry(self, connection: socket.socket) -> None:
        """One frame in, one out."""
        try:
            with connection:
                check_peer(connection)
                connection.settimeout(FRAME_SECONDS)
                kind, body = receive_frame(connection)
                if kind == HEALTH:
                    send_frame(connection, OK, json.dumps(self.health()).encode())
                    return
                request = Request(kind, body)
                self._requests.put(request)
                send_frame(connection, *_awaited(request, connection))
        except (
            FrameError,
            OSError,
        ) as error:  # the requester disconnected or may not ask; the answer is kept in the home
            log(WARNING, "agent process: a connection failed: %s", error)
        finally:
            self._places.release()


def _awaited(request: Request, connection: socket.socket) -> tuple[str, bytes]:
    """The answer, as long as the requester is connected: a lost one must not hold a place that a health check needs.

    Raises
    ------
    FrameError
        The requester has disconnected.
    """
    while True:
        try:
            return request.answer.get(timeout=LOOK_SECONDS)
        except queue.Empty:
            readable = bool(select.select([connection], [], [], 0)[0])
            if readable:  # one frame was in, so this is the end of the connection
                request.gone, request.body = True, b""
                raise FrameError(f"whoever asked to {request.kind} is gone") from None


def _listen(listener: socket.socket, path: Path) -> None:
    """Bind, in place of a socket that a killed predecessor left."""
    path.unlink(missing_ok=True)
    listener.bind(str(path))
    path.chmod(0o600)
    listener.listen(CONNECTIONS)


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--device", metavar="FOLDER", type=Path, required=True, help="the device's folder")
    parser.add_argument("--number", metavar="N", type=int, required=True, help="the agent's number")
    parser.add_argument("--direct", metavar="IP:PORT", default="", help="where neighbours reach it directly")
    parser.add_argument("--announce", metavar="IP:PORT", default="", help="the same, as they see it")
    parser.add_argument("--model", metavar="NAME", action="append", default=[], help="a recipe may name it")
    parser.add_argument("--source", metavar="ENTRY", action="append", default=[], help="a recipe may name it")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, _stop)
    options.device.mkdir(parents=True, exist_ok=True, mode=0o700)
    endpoint = partial(Endpoint, bind=options.direct, announce=options.announce)
    allowed = Allowed(frozenset(options.model), frozenset(options.source))
    AgentProcess(options.device.resolve(), options.number, endpoint, allowed).serve()


def _stop(number: int, frame: FrameType | None) -> None:
    """SIGTERM: unwind from wherever the main thread is; nothing in memory is worth waiting for."""
    raise SystemExit(0)


if __name__ == "__main__":
    main()
