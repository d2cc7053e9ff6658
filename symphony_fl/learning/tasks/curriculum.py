"""p(T | M, theta) of eq. 5 over generated tasks: which skill, at which difficulty, an agent trains on next.

A cell is a (skill, difficulty). What a group of G samples teaches GRPO depends on whether their rewards differ: with
equal ones every advantage is 0 and the group is left out of the gradient (`grpo`). So what a cell is worth is how often
its groups were mixed, and that the memory has counted: over the discounted groups of the cell,

    learnability = (mixed + 1) / (groups + 2)            posterior mean under a uniform prior

It is low where the agent always or never succeeds. A cell also pays for its repetitions: one that holds few tasks is
tried again and again on the same ones. Of all its groups, the share that were the first at their task in their round is

    freshness = groups * G / attempts                    1 where no task was tried twice in a round

learnability. A cell's success rate p would not tell: 1 - p^G - (1 - p)^G is the
chance of a mixed group only where all tasks of the cell are equally hard. Measured on the embedded model, they are not:
at p = 1/2 many groups are all right or all wrong.

By skill (the default), every skill gets the same number of tasks, the rest by chance, whatever its number of levels.
Drawn over all cells at once, a skill of three levels got a third of the tasks of one of seven (add, subtract: 0.27 and
0.45 at the end of a run in which given tasks came to 0.73 and 0.62). Then the level is drawn, in one of two ways:

- with probability ``floor`` uniformly over all levels. So every cell, closed ones included, always has at least
  ``floor / levels`` of its skill: nothing the agent could do meanwhile goes unnoticed.
- otherwise an open one with a probability proportional to the squares of learnability and freshness, as in
  prioritized level replay (Jiang et al., arXiv 2010.03934, there on ranks). Counts are to be discounted by age, since
  the agent changes: what was not tried for long goes back to the prior, and is tried again.

A level is open while there is evidence for it: the level below is mastered, or one of its own tasks was solved. Of a
skill that was never tried all levels are open: the first round sounds it out.

By cell, the first form of this curriculum, both ways draw from the cells of all skills at once, freshness is left out,
and a level is open only up to the one above the highest mastered one.

Departure: Thompson sampling, which takes the cell of the greatest draw, learnt faster for some rounds and then forgot
what it no longer practised (README); its batches were of few cells.

A level is mastered while (solved + 1) / (attempts + 2), over the discounted counts, is at least ``mastery``. Old
evidence wears off, so mastery must be shown anew from time to time, and an agent that lost it goes back down.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

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
    by : "skill" or "cell", see above
    samples : G, attempts per group; 0 where freshness is not to count
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
        by: str = "skill",
        samples: int = 0,
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
        self.by = by
        opened = opened_by_evidence if by == "skill" else opened_by_mastery
        self.open = {name: opened(skill, counts, mastery) for name, skill in self.skills.items()}
        open_C = np.array([level in self.open[name] for name, level in self.cells])
        worth_C = np.array([learnability(counts.get(cell, _NOTHING)) for cell in self.cells]) ** _POWER
        if by == "skill" and samples:
            worth_C *= np.square([freshness(counts.get(cell, _NOTHING), samples) for cell in self.cells])
        self.weights_C = np.where(open_C, worth_C, 0.0)
        self.weights_C /= self.weights_C.sum()  # a skill's lowest level is never closed

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

    def draw(self, rng: np.random.Generator, n: int, had: Mapping[str, float] | None = None) -> np.ndarray:
        """The places in ``cells`` of ``n`` draws, int64 [n].

        Parameters
        ----------
        had
            How many draws' worth each skill has had already, by skill: the one that has had least comes next.
        """
        if self.by == "skill":
            names = list(self.skills)
            skill_n = rng.permutation(_least_first(rng, [(had or {}).get(name, 0.0) for name in names], n))
            place_n = np.zeros(n, dtype=np.int64)
            for number, name in enumerate(names):
                mine = np.flatnonzero(skill_n == number)
                place_n[mine] = rng.choice(len(self.cells), size=mine.size, p=self.chances(name))
            return place_n
        chosen_n = rng.choice(len(self.cells), size=n, p=self.weights_C)
        anywhere_n = rng.integers(len(self.cells), size=n)
        return np.where(rng.random(n) < self.floor, anywhere_n, chosen_n)

    def chances(self, skill: str) -> np.ndarray:
        """Of every cell, once this skill is drawn, float64 [C]."""
        own_C = np.array([name == skill for name, _ in self.cells])
        weights_C = np.where(own_C, self.weights_C, 0.0)
        chances: np.ndarray = (
            1 - self.floor
        ) * weights_C / weights_C.sum() + self.floor * own_C / own_C.sum()
        return chances


def _least_first(rng: np.random.Generator, had: Sequence[float], n: int) -> np.ndarray:
    """``n`` numbers of skills, int64 [n]: always the one that has had least so far, by chance among equals."""
    had_S, chosen = np.array(had), []
    order = rng.permutation(len(had_S))
    for _ in range(n):
        chosen.append(order[np.argmin(had_S[order])])
        had_S[chosen[-1]] += 1
    return np.array(chosen, dtype=np.int64)


def learnability(counts: Counts) -> float:
    """Posterior mean of the share of a cell's groups whose rewards differ, under a uniform prior."""
    return (counts.mixed + 1) / (counts.groups + 2)


def freshness(counts: Counts, samples: int) -> float:
    """The share of a cell's groups of ``samples`` attempts that were the first at their task in their round."""
    return min(1.0, counts.groups * samples / counts.attempts) if counts.attempts else 1.0


def opened_by_evidence(skill: Skill, counts: Mapping[Cell, Counts], mastery: float) -> set[int]:
    """The lowest level, those above a mastered one, and those of which a task was solved; all where none was tried."""
    levels = list(skill.difficulties)
    tried = {level: counts[skill.name, level] for level in levels if (skill.name, level) in counts}
    if not tried:
        return set(levels)
    mastered = {level for level in tried if _rate(counts, (skill.name, level)) >= mastery}
    above = {level for below, level in pairwise(levels) if below in mastered}
    return {levels[0]} | above | {level for level, count in tried.items() if count.solved > 0}


def opened_by_mastery(skill: Skill, counts: Mapping[Cell, Counts], mastery: float) -> set[int]:
    """The levels up to the one above the highest mastered, the lowest if none is."""
    mastered = [
        place
        for place, level in enumerate(skill.difficulties)
        if _rate(counts, (skill.name, level)) >= mastery
    ]
    return set(skill.difficulties[: max(mastered, default=-1) + 2])


def _rate(counts: Mapping[Cell, Counts], cell: Cell) -> float:
    """Posterior mean of a cell's success rate under a uniform prior, every attempt counting."""
    count = counts.get(cell, _NOTHING)
    return (count.solved + 1) / (count.attempts + 2)
