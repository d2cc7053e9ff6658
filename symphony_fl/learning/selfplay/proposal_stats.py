"""What a proposer writes in a round, counted."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from symphony_fl.learning.skills import Task

WIDE = 0.6
"""Below this share of what it could be, by entropy, what is written counts as collapsed."""


class ProposalStats:
    """What was proposed in a round, and whether the proposer, which has ``skills`` skills, has collapsed.

    `proposals/effective` is exp of the entropy of the distinct tasks written, over their number: 1 where all differ
    and 0 < 1/n where all are one. `proposals/skills` is the same over the skills of what was written.
    `proposals/collapsed` is the verdict, 1 or 0: fewer than `WIDE` of the agent's skills, or of distinct tasks.
    """

    def __init__(self, skills: int) -> None:
        self.of = skills
        self.written: Counter[str] = Counter()
        self.skills: Counter[str] = Counter()
        self.levels: list[int] = []
        self.all = 0

    def proposed(self, written: Sequence[Task | None]) -> None:
        """Proposals of a step, None for those that are no task."""
        self.all += len(written)
        for task in written:
            if task is not None:
                self.written[task.prompt] += 1
                self.skills[task.skill] += 1
                self.levels.append(task.difficulty)

    def figures(self) -> dict[str, float]:
        """By metric name, all under "proposals/"."""
        valid = sum(self.written.values())
        if not self.all:
            return {}
        figures = {"proposals/valid": valid / self.all}
        if valid:
            effective, skills = _perplexity(self.written) / valid, _perplexity(self.skills)
            figures |= {
                "proposals/distinct": float(len(self.written)),
                "proposals/duplicate": 1 - len(self.written) / valid,
                "proposals/difficulty": sum(self.levels) / valid,
                "proposals/effective": effective,
                "proposals/skills": skills,
                "proposals/collapsed": float(min(effective, skills / self.of) < WIDE),
            }
        return figures


def _perplexity(counts: Counter[str]) -> float:
    total = sum(counts.values())
    return math.exp(-sum(n / total * math.log(n / total) for n in counts.values()))
