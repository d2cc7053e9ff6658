"""A kill at every write: each message to one agent is answered again and again, and dies a bit later every time."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from centre import Network
from flwr.app import Message

from clients.agents.agent import Agent
from clients.home.home import Home
from clients.protocol.messages import unpack_details
from clients.service.residents import open_resident
from clients.service.service import Service
from symphony_fl.config.options import Recipe


class Killed(BaseException):
    """What `kill -9` is to a process, for a test that lives on. Nothing may catch it by name."""


class Killing(Network):
    """A network one of whose agents is killed before each fsync and each rename of every message.

    After each kill the home is opened anew and the message comes again, as a server would send it. What the home holds
    then is noted in `different` where it is not what it holds without a kill; the run goes on from the latter.

    Attributes
    ----------
    kills : by kind of message
    different : (kind of message, write before which it was killed, name of what differs)
    """

    def __init__(self, recipe: Recipe, folder: Path, victim: int) -> None:
        super().__init__(recipe, folder)
        self.victim = victim
        self.kills: dict[str, int] = {}
        self.different: list[tuple[str, int, str]] = []

    def answer(self, message: Message) -> Message:
        kind = message.metadata.message_type.removeprefix("query.")
        if message.metadata.dst_node_id - 1 != self.victim or kind not in ("train", "evaluate"):
            return super().answer(message)
        home, before = self._home(), self.folder / "before"
        service = self.services[self.victim]
        service.close()
        shutil.copytree(home, before)
        reply = super().answer(message)
        service.close()
        calm, after = self._held(), self.folder / "after"
        shutil.copytree(home, after)
        for write in range(1, 1000):
            _replace(home, before)
            self.services[self.victim] = self._service()
            try:
                with _killed_before(write):
                    super().answer(message)
            except Killed:
                self.kills[kind] = self.kills.get(kind, 0) + 1
            else:
                break
            self.services[self.victim].close()  # lets go of the lock, as the end of a process does
            self.services[self.victim] = self._service()
            again = super().answer(message)
            self.services[self.victim].close()
            self.different += [(kind, write, name) for name in _differing(calm, self._held())]
            if _adapter(again) != _adapter(reply):
                self.different.append((kind, write, "adapter in the reply"))
        self.services[self.victim].close()
        _replace(home, after)
        for copy in (before, after):
            shutil.rmtree(copy)
        self.services[self.victim] = service
        return reply

    def _home(self) -> Path:
        return self.folder / "agents" / str(self.victim)

    def _held(self) -> dict[str, Any]:
        """Everything a home holds, once it is open, but for figures."""
        home = Home(self._home())
        home.acquire()
        agent = open_resident(home, self.victim, self.recipe, home.founding()["run"])
        if isinstance(agent, Agent):
            agent.state.arrays |= agent.exchange.arrays()
        state = agent.state
        agent.close()
        home.release()
        return {
            "adapter": state.adapter,
            **{f"arrays/{name}": array for name, array in state.arrays.items()},
            **{
                name: getattr(state, name)
                for name in ("round", "last_seen", "heard", "roster", "outbox", "relay")
            },
            **{name: getattr(state, name) for name in ("letters", "tasks")},
            "reports": {number: report["adapter"] for number, report in state.reports.items()},
        }

    def _service(self) -> Service:
        return Service(self.victim, lambda run: Home(self._home()), lasting=True)


def _replace(folder: Path, other: Path) -> None:
    shutil.rmtree(folder)
    shutil.copytree(other, folder)


def _adapter(reply: Message) -> str:
    return str(unpack_details(reply.content)["adapter"])


def _differing(calm: dict[str, Any], killed: dict[str, Any]) -> list[str]:
    return [
        name
        for name in sorted(calm.keys() | killed.keys())
        if name not in calm or name not in killed or not _same(calm[name], killed[name])
    ]


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()
    return bool(one == other)


@contextmanager
def _killed_before(write: int) -> Iterator[None]:
    """Kill at the given fsync or rename within the block. Those of SQLite and of other threads, such as the tracker's,
    do not count."""
    left, thread = [write], threading.get_ident()

    def counted(call: Any) -> Any:
        def one(*arguments: Any) -> Any:
            if threading.get_ident() == thread:
                left[0] -= 1
                if not left[0]:
                    raise Killed
            return call(*arguments)

        return one

    with (
        mock.patch.object(os, "fsync", counted(os.fsync)),
        mock.patch.object(os, "replace", counted(os.replace)),
    ):
        yield
