"""Tasks out of a dataset's rows instead of a generator.

A skill of fixed rows obeys the same split as all others: a task is held out if its prompt's hash says so
(``learning/tasks.py``), whatever split of the dataset it came from. So of a few dozen rows only a few are held out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from symphony_fl.learning.skills.base import SkillError
from symphony_fl.learning.skills.datasets.loaders import SHIPPED, SHIPPED_SPLIT, Row, load_rows
from symphony_fl.learning.skills.questions import QuestionSkill


@dataclass(frozen=True)
class RowDraw:
    """Draws (question, answer) from rows. ``read(row)`` gives (question, answer, difficulty).

    Rows are read at the first draw: importing a skill reads no file.
    """

    format: str
    read: Callable[[Row], tuple[str, str, int]]
    source: str
    split: str

    @cached_property
    def by_difficulty(self) -> dict[int, list[tuple[str, str]]]:
        """All (question, answer), in the rows' order.

        Raises
        ------
        SkillError
            What ``load_rows`` raises.
        """
        levels: dict[int, list[tuple[str, str]]] = {}
        for row in load_rows(self.format, self.source, self.split):
            question, answer, level = self.read(row)
            levels.setdefault(level, []).append((question, answer))
        return levels

    def __call__(self, rng: np.random.Generator, difficulty: int) -> tuple[str, str]:
        """One row of that difficulty, uniformly."""
        rows = self.by_difficulty.get(difficulty)
        if not rows:
            raise SkillError(
                f"{self.format} rows of {self.source}, {self.split}: none of difficulty {difficulty}"
            )
        return rows[int(rng.integers(len(rows)))]


def shipped(format: str, read: Callable[[Row], tuple[str, str, int]]) -> RowDraw:
    """A draw from the rows that come with the package."""
    return RowDraw(format, read, source=str(SHIPPED / format), split=SHIPPED_SPLIT)


def with_rows(skill: QuestionSkill, source: str, split: str) -> QuestionSkill:
    """The same skill over other rows: those of a folder, or of a hub dataset ``owner/name``. They are read now.

    Its difficulties are those the rows have.

    Raises
    ------
    SkillError
        The skill is generated, ``load_rows`` failed, or a difficulty between others has no row.
    """
    if not isinstance(skill.draw, RowDraw):
        raise SkillError(f"skill {skill.name!r} is generated: it takes no rows")
    draw = replace(skill.draw, source=source, split=split)
    levels = sorted(draw.by_difficulty)
    difficulties = range(levels[0], levels[-1] + 1)
    missing = sorted(set(difficulties) - set(levels))
    if missing:
        raise SkillError(
            f"{draw.format} rows of {source}, {split}: difficulties {levels} but none of {missing}"
        )
    return replace(skill, draw=draw, difficulties=difficulties)
