"""Which kind of agent a recipe makes of a number."""

from __future__ import annotations

from clients.agent import Agent
from clients.home import Home
from clients.trainer import Trainer
from clients.worker import Worker
from symphony_fl.centralized import TRAINER, is_centralized
from symphony_fl.recipe import Recipe

Resident = Agent | Trainer | Worker
"""Whoever lives in a home and answers messages."""


def open_resident(home: Home, number: int, recipe: Recipe, run: str) -> Resident:
    """The resident of a home, opened; the home is locked by the caller."""
    if not is_centralized(recipe):
        return Agent(home, number, recipe, run)
    return (Trainer if number == TRAINER else Worker)(home, number, recipe, run)
