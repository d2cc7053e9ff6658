"""What both ends of an edge agree on, what a receiver is ready to open, and what comes out."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import numpy as np

from symphony_fl.exchange.codecs.codec import Codec
from symphony_fl.exchange.flat import DIGEST_BYTES
from symphony_fl.exchange.messages.header import HEADER_LIMIT, KINDS, RewardReport
from symphony_fl.exchange.selection.selection import Selection
from symphony_fl.identity.signatures import SIGNATURE_BYTES

LENGTH_BYTES = 2


@dataclass(frozen=True)
class Session:
    """What both ends of an edge agree on before anything travels; the same on every agent of a run.

    Attributes
    ----------
    run, base, layout : 16-byte digests of the run, of the base model's weights, of the adapter's layout.
    kind : a key of `header.KINDS`; a rule's `kind`.
    selection : which entries travel; knows P.
    codec : how values travel.
    """

    run: bytes
    base: bytes
    layout: bytes
    kind: str
    selection: Selection
    codec: Codec

    def __post_init__(self) -> None:
        for name in ("run", "base", "layout"):
            if len(getattr(self, name)) != DIGEST_BYTES:
                raise ValueError(f"{name}: a digest of {DIGEST_BYTES} bytes is needed")
        if self.kind not in KINDS:
            raise ValueError(f"kind={self.kind!r}: must be one of {', '.join(KINDS)}")

    @property
    def max_bytes(self) -> int:
        """No envelope under these terms is longer."""
        size = self.selection.size
        indices = 0 if self.selection.shared else 5 * size + 64
        return LENGTH_BYTES + HEADER_LIMIT + SIGNATURE_BYTES + indices + self.codec.nbytes(size)


@dataclass(frozen=True)
class Expectation:
    """What an agent is ready to open.

    Attributes
    ----------
    terms : of the run.
    senders : the did:keys of the agents from whom updates may come.
    newest : per sender the newest round that was accepted; none yet where absent.
    missing : per sender older rounds that may still come, for rules that forward (empty for the others).
    max_round : the highest round that the run can have reached.
    """

    session: Session
    senders: Collection[str]
    newest: Mapping[str, int] = field(default_factory=dict)
    missing: Mapping[str, Collection[int]] = field(default_factory=dict)
    max_round: int = 1 << 20


@dataclass(frozen=True)
class Update:
    """What an agent shares after a round, as everyone sees it.

    Attributes
    ----------
    sender : did:key.
    round : the sender's.
    kind : a key of `header.KINDS`.
    indices : int64 [k], ascending.
    values : float32 [k], after coding and decoding.
    adapter : 16-byte digest of the sender's adapter when it sealed.
    rewards : what the sender reports to have earned.
    """

    sender: str
    round: int
    kind: str
    indices: np.ndarray
    values: np.ndarray
    adapter: bytes
    rewards: tuple[RewardReport, ...]
