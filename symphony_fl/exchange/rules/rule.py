"""A(.) and alpha of eq. 4: how received updates change an adapter. The protocol of all rules; see `rules/`.

    theta = rule.start(theta)                                  what a round starts from; called in every round
    ... local learning ...
    offer = rule.offer(theta)                                  what would travel if all of it did, and how it ranks
    indices = selection.select(offer.score, round)
    sealed = seal(terms, key, round=round, indices=indices, values=offer.values[indices], ...)
    theta = rule.record(theta, indices, sealed.update.values, round)    what really left, after lossy coding
    theta = rule.merge(theta, received, round)                 what came in since; called when something did

The first adapter that a rule sees is the one that all agents of the run begin with. A rule's `state` holds all that
must survive in the agent's home; `load_state` brings it back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np


class MergeError(ValueError):
    """A rule that cannot be built, or arrays that do not fit it."""


@dataclass(frozen=True)
class Offer:
    """What a rule has to tell: `values` float32 [P], and `score` float32 [P], which data-dependent selections rank."""

    values: np.ndarray
    score: np.ndarray


@dataclass(frozen=True)
class Received:
    """One opened update at its receiver.

    Attributes
    ----------
    sender : agent number.
    round : the sender's.
    weight : w_ij of the topology for this edge and round.
    indices : int64 [k], ascending.
    values : float32 [k].
    """

    sender: int
    weight: float
    round: int
    indices: np.ndarray
    values: np.ndarray


class Rule(Protocol):
    """How updates change an adapter of P entries.

    Attributes
    ----------
    kind : what travels, a key of `header.KINDS`.
    forwards : True where agents pass on what they receive (see `epidemic`).
    state : named arrays that must survive; change only through the rule.
    """

    kind: str
    forwards: bool

    @property
    def state(self) -> dict[str, np.ndarray]: ...

    def start(self, theta: np.ndarray) -> np.ndarray:
        """What an agent starts its round from, float32 [P]."""
        ...

    def offer(self, theta: np.ndarray) -> Offer:
        """What would travel if everything did."""
        ...

    def record(self, theta: np.ndarray, indices: np.ndarray, decoded: np.ndarray, round: int) -> np.ndarray:
        """Notes what left the device and returns the adapter after it, float32 [P]."""
        ...

    def merge(self, theta: np.ndarray, received: Sequence[Received], round: int) -> np.ndarray:
        """The adapter after what came in, float32 [P]; a fresh array."""
        ...

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Brings back `state`. Raises MergeError where names, shapes or types differ."""
        ...


def checked_state(kept: Mapping[str, np.ndarray], loaded: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Copies of the loaded arrays, once names, shapes and types are those of `kept`; else MergeError."""
    if sorted(kept) != sorted(loaded):
        raise MergeError(f"state has {sorted(loaded)}, expected {sorted(kept)}")
    for name, array in kept.items():
        if loaded[name].shape != array.shape or loaded[name].dtype != array.dtype:
            raise MergeError(
                f"state {name!r} is {loaded[name].dtype} {loaded[name].shape}, expected {array.dtype} {array.shape}"
            )
    return {name: np.array(loaded[name]) for name in kept}


def newest_per_sender(received: Sequence[Received]) -> list[Received]:
    """One update per sender, its newest, in the order of the senders' numbers: the order of every sum."""
    newest: dict[int, Received] = {}
    for update in received:
        if update.sender not in newest or newest[update.sender].round < update.round:
            newest[update.sender] = update
    return [newest[sender] for sender in sorted(newest)]


def in_order(received: Sequence[Received]) -> list[Received]:
    """All updates, by round and then by sender: the order of every sum of changes."""
    return sorted(received, key=lambda update: (update.round, update.sender))
