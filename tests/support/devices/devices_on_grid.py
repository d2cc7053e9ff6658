"""Real agent processes behind Flower's real in-memory grid: a network of devices without SuperNodes and SuperLink."""

from __future__ import annotations

from pathlib import Path

from device import Process, fork_agent
from flwr.app import Message
from loopback import Loopback

from clients.protocol.messages import OUTBOX, pack_greeting, unpack_envelopes
from clients.transport.agent_client import call_agent
from strategies import server_app
from strategies.roster import Roster
from symphony_fl.config.options import Recipe
from symphony_fl.metrics.history import History
from symphony_fl.tracking.tracker import Tracker


class Devices:
    """One agent process per agent, on loopback addresses. Messages are worked on one after the other, so an agent has
    often done a round before its neighbour has begun it.

    Attributes
    ----------
    uploaded : kind of message -> bytes of envelopes that replies of that kind carried to the server
    mortal : agents that are killed after every answer, and started again for the next message
    """

    def __init__(self, folder: Path, agents: int) -> None:
        self.folder = folder
        self.loop = Loopback(self.answer)
        self.processes: dict[int, Process] = {}
        self.uploaded: dict[str, int] = {}
        self.mortal: set[int] = set()
        for number in range(agents):
            self.start(number)
            self.loop.join(number)

    def device(self, number: int) -> Path:
        return self.folder / f"dev{number}"

    def start(self, number: int) -> None:
        options = ("--direct", "127.0.0.1:0")
        self.processes[number] = fork_agent(self.device(number), number, *options)

    def kill(self, number: int) -> None:
        """SIGKILL, with its endpoint."""
        self.processes[number].kill()
        self.processes[number].wait()

    def close(self) -> None:
        for number in self.processes:
            self.kill(number)

    def said(self, number: int) -> str:
        """What an agent process logged."""
        return (self.device(number) / "agent.log").read_text()

    def answer(self, agent: int, message: Message) -> Message:
        """As the ClientApp of a device does."""
        kind = message.metadata.message_type.rpartition(".")[2]
        if self.processes[agent].poll() is not None:
            self.start(agent)
        content = call_agent(self.device(agent) / "agent.sock", kind, message.content)
        size = sum(map(len, unpack_envelopes(content, OUTBOX).values()))
        self.uploaded[kind] = self.uploaded.get(kind, 0) + size
        if agent in self.mortal:
            self.kill(agent)
        return Message(content, reply_to=message)

    def play(self, recipe: Recipe, uri: str, name: str) -> History:
        """The ServerApp's rounds."""
        folder = self.folder / name
        folder.mkdir()
        history = History(folder / "history.jsonl")
        tracker = Tracker(uri, recipe, name, folder)
        greeting = pack_greeting(name, recipe)
        self.uploaded = {}
        with self.loop.working() as grid:
            roster = Roster(recipe.agents, greeting)
            server_app._rounds(grid, server_app.Run(recipe, name, folder), roster, history, tracker)
        return history
