"""What an agent remembers of an attempt, and what it counts. No database here: see `memory`."""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from symphony_fl.learning.skills.base import Task

SOLVED = 1.0 - 1e-6  # a reward from which on a task counts as solved: full marks, but for rounding
LOTS = 2**62

_HEX = re.compile(r"(?:[0-9a-f]{2})+")

Cell = tuple[str, int]  # skill, difficulty


class Counts(NamedTuple):
    """Attempts at the tasks of a cell and how many of them solved theirs; groups of attempts at one task in one round,
    and how many of them were mixed, with rewards that differ. Fractions once discounted."""

    attempts: float
    solved: float
    groups: float = 0.0
    mixed: float = 0.0


@dataclass(frozen=True)
class Episode:
    """One attempt at one task.

    ``attempt`` is the completion; ``policy`` the digest, in lower-case hex, of the adapter that wrote it.

    Raises
    ------
    ValueError
        A reward outside [0, 1], a round below 1, a policy that is not hex, a text that is not Unicode.
    """

    task: Task
    attempt: str
    reward: float
    policy: str
    round: int

    def __post_init__(self) -> None:
        if not 0 <= self.reward <= 1:  # NaN, too
            raise ValueError(f"reward = {self.reward}: must be in [0, 1]")
        if self.round < 1:
            raise ValueError(f"round = {self.round}: must be at least 1")
        if not _HEX.fullmatch(self.policy):
            raise ValueError(f"policy = {self.policy!r}: must be a digest in lower-case hex")
        for name, text in (
            ("attempt", self.attempt),
            ("prompt", self.task.prompt),
            ("answer", self.task.answer),
        ):
            if any("\ud800" <= letter <= "\udfff" for letter in text):
                raise ValueError(f"{name} = {text!r}: holds half a surrogate pair, which has no UTF-8")

    @property
    def solved(self) -> bool:
        return self.reward >= SOLVED


def tally(episodes: Sequence[Episode]) -> dict[Cell, Counts]:
    """What a round's episodes amount to, per cell. A group is all of them that tried one prompt."""
    rewards: dict[Cell, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    solved: Counter[Cell] = Counter()
    for episode in episodes:
        cell = (episode.task.skill, episode.task.difficulty)
        rewards[cell][episode.task.prompt].append(episode.reward)
        solved[cell] += episode.solved
    return {
        cell: Counts(
            sum(map(len, groups.values())),
            solved[cell],
            len(groups),
            sum(len(set(group)) > 1 for group in groups.values()),
        )
        for cell, groups in rewards.items()
    }


def lot(task: Task) -> int:
    """A number in [0, LOTS) that a task's prompt alone decides: the order in which `Memory.replay` goes around."""
    return int.from_bytes(hashlib.sha256(task.prompt.encode()).digest()[:8], "big") % LOTS
