"""What the tests of the exchange share: a small run of known agents."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

from symphony_fl.exchange.codecs.codec import build_codec
from symphony_fl.exchange.flat import Layout
from symphony_fl.exchange.messages.envelope import Sealed, seal
from symphony_fl.exchange.messages.session import Expectation, Session
from symphony_fl.exchange.selection.selection import build_selection
from symphony_fl.identity.did_key import did_from_public_key, public_key_of


@dataclass(frozen=True)
class Run:
    """Two keys, terms, and what a receiver expects."""

    session: Session
    keys: tuple[bytes, ...]
    dids: tuple[str, ...]

    def expectation(self, **newest: int) -> Expectation:
        return Expectation(self.session, self.dids, {self.dids[int(key[1:])]: n for key, n in newest.items()})

    def seal(self, agent: int = 0, round: int = 3, seed: int = 0) -> Sealed:
        values = np.random.default_rng([seed, agent, round]).standard_normal(self.session.selection.size)
        change = values.astype(np.float32)
        indices = self.session.selection.select(change, round)
        return seal(
            self.session,
            self.keys[agent],
            round=round,
            indices=indices,
            values=change[indices],
            adapter=bytes(range(16)),
        )


@pytest.fixture(scope="session")
def make_run() -> Callable[..., Run]:
    def build(
        selection: str = "random",
        coding: str = "bfloat16",
        size: int = 2000,
        density: float = 0.05,
        kind: str = "values",
    ) -> Run:
        layout = Layout(("a", "b"), ((size // 2,), (size - size // 2,)))
        session = Session(
            run=b"R" * 16,
            base=b"B" * 16,
            layout=layout.digest,
            kind=kind,
            selection=build_selection(selection, layout, density, seed=7),
            codec=build_codec(coding, 64),
        )
        keys = tuple(bytes([n + 1] * 32) for n in range(2))
        return Run(session, keys, tuple(did_from_public_key(public_key_of(key)) for key in keys))

    return build
