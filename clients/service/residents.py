"""Which kind of agent a recipe makes of a number, and what all of them do alike."""

from __future__ import annotations

from logging import WARNING

from flwr.app import RecordDict
from flwr.common import log

from clients.agents.agent import Agent
from clients.agents.trainer import Trainer
from clients.agents.worker import Worker
from clients.home.home import Home
from clients.protocol.messages import MAIL, MessageError, unpack_envelopes
from symphony_fl.build.centralized import TRAINER, is_centralized
from symphony_fl.config.options import Recipe

Resident = Agent | Trainer | Worker
"""An agent or worker that has a home and answers messages."""


def open_resident(home: Home, number: int, recipe: Recipe, run: str) -> Resident:
    """The resident of a home, opened; the home is locked by the caller."""
    if not is_centralized(recipe):
        return Agent(home, number, recipe, run)
    return (Trainer if number == TRAINER else Worker)(home, number, recipe, run)


def mail_of(agent: Resident, content: RecordDict) -> dict[str, bytes]:
    """Label -> envelope, as a message brought them; mail that cannot be read is counted and lost, no more than that."""
    try:
        return unpack_envelopes(content, MAIL)
    except MessageError as error:
        log(WARNING, "agent %d: mail refused: %s", agent.number, error)
        agent.metrics["refused/message"] = 1.0
        return {}
