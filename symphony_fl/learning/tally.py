"""What a proposer writes in a round, counted."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from symphony_fl.learning.episodes import Cell
from symphony_fl.learning.skills import Task


class Tally:
    """What was proposed in a round, and whether the proposer is collapsing.

    `proposals/effective` is exp of the entropy of the distinct tasks written, over their number: 1 where all differ
    and 0 < 1/n where all are one. `proposals/skills` is the same over the skills of what was written.
    """

    def __init__(self) -> None:
        self.written: Counter[str] = Counter()
        self.skills: Counter[str] = Counter()
        self.levels: list[int] = []
        self.all = 0

    def proposed(self, cells: Sequence[Cell], written: Sequence[Task | None]) -> None:
        self.all += len(cells)
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
            figures |= {
                "proposals/duplicate": 1 - len(self.written) / valid,
                "proposals/difficulty": sum(self.levels) / valid,
                "proposals/effective": _perplexity(self.written) / valid,
                "proposals/skills": _perplexity(self.skills),
            }
        return figures


def _perplexity(counts: Counter[str]) -> float:
    total = sum(counts.values())
    return math.exp(-sum(n / total * math.log(n / total) for n in counts.values()))
