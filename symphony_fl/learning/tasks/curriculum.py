"""p(T | M, theta) of eq. 5 over generated tasks: which skill, at which difficulty, an agent trains on next.

A cell is a (skill, difficulty). What a group of G samples teaches GRPO depends on whether their rewards differ: with
equal ones every advantage is 0 and the group is left out of the gradient (`grpo`). So what a cell is worth is how often
its groups were mixed, and that the memory has counted: over the discounted groups of the cell,

    learnability = (mixed + 1) / (groups + 2)            posterior mean under a uniform prior

It is low where the agent always or never succeeds. A cell's success rate p would not tell: 1 - p^G - (1 - p)^G is the
chance of a mixed group only where all tasks of the cell are equally hard. Measured on the embedded model, they are not:
at p = 1/2 many groups are all right or all wrong.

Each task's cell is drawn apart from the others, in one of two ways:

- with probability ``floor`` uniformly over all cells. So every cell, locked ones included, always has at least
  ``floor / cells``: no skill is given up and nothing the agent could do meanwhile goes unnoticed.
- otherwise an unlocked cell with a probability proportional to the square of its learnability, as in prioritized level
  replay (Jiang et al., arXiv 2010.03934, there on ranks). Counts are to be discounted by age, since the agent changes:
  what was not tried for long goes back to the prior, and is tried again.

Departure: Thompson sampling, which takes the cell of the greatest draw, learnt faster for some rounds and then forgot
what it no longer practised (README); its batches were of few cells.

Difficulty rises as the agent does: a skill's levels are unlocked up to the one above the highest mastered one. A level
is mastered while (solved + 1) / (attempts + 2), over the discounted counts, is at least ``mastery``. Old evidence wears
off, so mastery must be shown anew from time to time, and an agent that lost it goes back down.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from symphony_fl.learning.memory.episodes import Cell, Counts
from symphony_fl.learning.skills import SkillError, Task, get_skill
from symphony_fl.learning.skills.base import Skill
from symphony_fl.learning.tasks.task_sampler import draw_training_task

_TAG = 0x43555252  # separates this stream from others drawn from the same seed
_NOTHING = Counts(0.0, 0.0, 0.0, 0.0)
_POWER = 2.0


class Curriculum:
    """A `tasks.Sampler` that follows the agent: the same tasks for the same (counts, seed, round, step).

    Parameters
    ----------
    skills : short names of the agent's skills
    counts : what the agent has tried, as of the round's beginning (`Memory.counts`, discounted); cells of other skills
        are ignored
    seed : the agent's own, derived from (run, agent)
    floor : share of tasks drawn uniformly over all cells, in [0, 1]
    mastery : success rate that unlocks the next level, in (0, 1)
    exclude : prompts that are never drawn, besides the reserved ones

    Raises
    ------
    SkillError
        No skill was given, or an unknown or repeated one.
    ValueError
        A parameter is out of its range.
    """

    def __init__(
        self,
        skills: Sequence[str],
        counts: Mapping[Cell, Counts],
        seed: int,
        *,
        floor: float = 0.1,
        mastery: float = 0.8,
        exclude: frozenset[str] = frozenset(),
    ) -> None:
        if not skills or len(set(skills)) != len(skills):
            raise SkillError(f"skills = {', '.join(skills) or 'none'}: must be at least one, none twice")
        if not 0 <= floor <= 1:
            raise ValueError(f"floor = {floor}: must be in [0, 1]")
        if not 0 < mastery < 1:
            raise ValueError(f"mastery = {mastery}: must be above 0 and below 1")
        self.skills = {name: get_skill(name) for name in skills}
        self.cells = [(name, level) for name, skill in self.skills.items() for level in skill.difficulties]
        self.seed = seed
        self.floor = floor
        self.exclude = exclude
        self.unlocked = {name: unlocked(skill, counts, mastery) for name, skill in self.skills.items()}
        open_C = np.array([level <= self.unlocked[name] for name, level in self.cells])
        worth_C = np.array([learnability(counts.get(cell, _NOTHING)) for cell in self.cells])
        self.weights_C = np.where(open_C, worth_C**_POWER, 0.0)
        self.weights_C /= self.weights_C.sum()  # a skill's lowest level is never locked

    def sample(self, n: int, round: int, step: int) -> list[Task]:
        """``n`` tasks.

        Raises
        ------
        SkillError
            The prompts of a cell that was drawn are (nearly) all excluded.
        """
        rng = np.random.default_rng([self.seed, _TAG, round, step])
        cells = [self.cells[place] for place in self.draw(rng, n)]
        return [draw_training_task(self.skills[name], rng, self.exclude, level) for name, level in cells]

    def draw(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """The places in ``cells`` of ``n`` draws, int64 [n]: by weight, a few replaced by uniform ones."""
        chosen_n = rng.choice(len(self.cells), size=n, p=self.weights_C)
        anywhere_n = rng.integers(len(self.cells), size=n)
        return np.where(rng.random(n) < self.floor, anywhere_n, chosen_n)


def learnability(counts: Counts) -> float:
    """Posterior mean of the share of a cell's groups whose rewards differ, under a uniform prior."""
    return (counts.mixed + 1) / (counts.groups + 2)


def unlocked(skill: Skill, counts: Mapping[Cell, Counts], mastery: float) -> int:
    """The highest unlocked level of a skill: the one above the highest mastered, the lowest if none is."""
    mastered = [
        place
        for place, level in enumerate(skill.difficulties)
        if _rate(counts, (skill.name, level)) >= mastery
    ]
    frontier = max(mastered, default=-1) + 1
    return skill.difficulties[min(frontier, len(skill.difficulties) - 1)]


def _rate(counts: Mapping[Cell, Counts], cell: Cell) -> float:
    """Posterior mean of a cell's success rate under a uniform prior, every attempt counting."""
    count = counts.get(cell, _NOTHING)
    return (count.solved + 1) / (count.attempts + 2)
