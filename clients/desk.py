"""What an endpoint and its user agree on: who decides what is accepted, and what is to be delivered where."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from symphony_fl.exchange.refusals import EnvelopeError


class Desk(Protocol):
    """Who decides what is accepted. Called from the endpoint's thread; refuses by raising EnvelopeError."""

    def admits(self, did: str) -> bool: ...

    def announced(self, did: str, head: bytes) -> int:
        """Bytes of the body to come after that head."""

    def deliver(self, did: str, head: bytes, body: bytes) -> None:
        """Keep it, for good, before returning."""

    def refused(self, error: EnvelopeError) -> None: ...


@dataclass(frozen=True)
class Letterbox:
    """Where a neighbour can be reached, and what it is to be given."""

    did: str
    addresses: tuple[str, ...]
    delivery: bytes
