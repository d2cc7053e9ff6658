"""What an agent answers: its report, or that it cannot do what it was asked for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from symphony_fl.errors import PublicError


class AgentError(PublicError, RuntimeError):
    """An agent was asked for something it cannot do; the message says what."""


@dataclass
class Report:
    """What an agent tells the server about a message.

    `averaged` are the few figures Flower's own strategies average, the same names from every agent; `solved` is a 1 or
    a 0 for every held-out task.
    """

    averaged: dict[str, float]
    metrics: dict[str, float]
    adapter: str
    outbox: dict[str, bytes] = field(default_factory=dict)
    solved: str = ""

    def details(self) -> dict[str, Any]:
        return {"metrics": self.metrics, "adapter": self.adapter, "solved": self.solved}
