"""The curriculum: what it prefers, what it guarantees, and that a learner that follows it needs fewer samples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples import examples
from symphony_fl.learning.memory.episodes import Cell, Counts
from symphony_fl.learning.skills import SkillError, get_skill
from symphony_fl.learning.tasks.curriculum import (
    Curriculum,
    freshness,
    learnability,
    opened_by_evidence,
    opened_by_mastery,
)
from symphony_fl.learning.tasks.task_sampler import TaskSampler, is_reserved

SKILLS = ["reverse", "sort", "next", "add"]
SAMPLES = 8


def _shares(curriculum: Curriculum, draws: int = 4000) -> dict[Cell, float]:
    found = Counter(curriculum.draw(np.random.default_rng(0), draws).tolist())
    return {cell: found[place] / draws for place, cell in enumerate(curriculum.cells)}


def test_learnability_is_the_share_of_mixed_groups() -> None:
    """Under a uniform prior: nothing known is worth one half, and 3 of 8 groups 4 / 10."""
    assert learnability(Counts(0, 0)) == 0.5
    assert learnability(Counts(64, 20, 8, 3)) == 0.4
    assert learnability(Counts(64, 32, 8, 0)) == 0.1, "half of it solved, but never half of a group"


def test_it_prefers_what_is_solved_sometimes() -> None:
    counts = {
        ("max", 1): Counts(800, 800, 100, 0),
        ("min", 1): Counts(800, 400, 100, 100),
        ("max", 2): Counts(800, 400, 100, 0),
    }
    curriculum = Curriculum(["max", "min"], counts, 0, floor=0.0, by="cell")
    weights = dict(zip(curriculum.cells, curriculum.weights_C.tolist(), strict=True))
    assert weights["min", 1] / weights["max", 1] == pytest.approx(101**2)  # (101 / 102) / (1 / 102), squared
    assert weights["max", 2] == weights["max", 1]
    shares = _shares(curriculum)
    assert shares["max", 1] + shares["max", 2] < 0.01


def test_what_is_unknown_is_tried() -> None:
    """All of "add" unknown, of "max" known to be far too hard: nearly all draws are of the unknown."""
    counts = {("max", 1): Counts(800, 0, 100, 0)}
    shares = _shares(Curriculum(["max", "add"], counts, 0, floor=0.0, by="cell"))
    assert shares["add", 1] > 0.95


def test_skills_are_drawn_evenly_and_levels_by_worth() -> None:
    """Of "add", level 1: 9 of 10 groups mixed, half of them repeated; 2: 4 of 10; 3: none of 8, one task solved.
    Worth: (10 / 12)^2 / 4, (5 / 12)^2, (1 / 10)^2; the floor adds 0.1 / 3 of the skill."""
    counts = {
        ("add", 1): Counts(160, 80, 10, 9),
        ("add", 2): Counts(80, 8, 10, 4),
        ("add", 3): Counts(64, 64, 8, 0),
        ("max", 1): Counts(8, 8, 1, 0),
    }
    curriculum = Curriculum(["add", "max"], counts, 0, floor=0.1, samples=8)
    worth = np.array([(10 / 12) ** 2 / 4, (5 / 12) ** 2, 0.1**2])
    expected = 0.9 * worth / worth.sum() + 0.1 / 3
    assert curriculum.chances("add")[:3] == pytest.approx(expected)
    assert curriculum.chances("add").sum() == pytest.approx(1) and not curriculum.chances("add")[3:].any()
    rng = np.random.default_rng(0)
    for n, least in ((8, 4), (9, 4), (1, 0)):
        skills = Counter(curriculum.cells[place][0] for place in curriculum.draw(rng, n).tolist())
        assert sum(skills.values()) == n and {skills["add"], skills["max"]} <= {least, least + 1}
    shares = _shares(curriculum)
    assert [shares["add", level] for level in (1, 2, 3)] == pytest.approx(expected / 2, abs=0.02)


def test_a_cell_pays_for_its_repetitions() -> None:
    assert freshness(Counts(64, 9, 8, 1), 8) == 1.0, "eight groups of eight, each the first at its task"
    assert freshness(Counts(256, 9, 8, 1), 8) == 0.25, "each task four times in its round"
    assert freshness(Counts(0, 0), 8) == 1.0


def test_a_level_opens_by_evidence() -> None:
    skill = get_skill("add")
    assert opened_by_evidence(skill, {}, 0.5) == {1, 2, 3}, "never tried: sounded out"
    assert opened_by_evidence(skill, {("add", 1): Counts(16, 0)}, 0.5) == {1}
    assert opened_by_evidence(skill, {("add", 1): Counts(16, 12)}, 0.5) == {1, 2}, "13 / 18 is mastered"
    counts = {("add", 1): Counts(16, 4), ("add", 3): Counts(8, 1)}
    assert opened_by_evidence(skill, counts, 0.5) == {1, 3}, "one of its own tasks was solved"


@examples(25)
@given(st.data(), st.sampled_from([0.1, 0.3, 1.0]))
def test_every_cell_has_its_floor(data: st.DataObject, floor: float) -> None:
    cells = Curriculum(SKILLS, {}, 0).cells
    rates = data.draw(st.lists(st.floats(0, 1), min_size=len(cells), max_size=len(cells)))
    counts = {cell: Counts(1000, 1000 * p, 125, 125 * p) for cell, p in zip(cells, rates, strict=True)}
    shares = _shares(Curriculum(SKILLS, counts, 0, floor=floor), 20_000)
    expected = floor / len(SKILLS) / 7  # of a skill with the most levels
    assert min(shares.values()) > expected - 5 * np.sqrt(expected / 20_000)  # 5 standard deviations


def test_difficulty_is_unlocked_level_by_level() -> None:
    skill, counts = get_skill("add"), {}
    assert opened_by_mastery(skill, counts, 0.8) == {1}
    counts["add", 1] = Counts(20, 15)  # (15 + 1) / (20 + 2) = 0.73
    assert opened_by_mastery(skill, counts, 0.8) == {1}
    counts["add", 1] = Counts(20, 18)
    assert opened_by_mastery(skill, counts, 0.8) == {1, 2}
    counts["add", 2] = Counts(20, 20)
    assert opened_by_mastery(skill, counts, 0.8) == {1, 2, 3}
    counts["add", 3] = Counts(20, 20)
    assert opened_by_mastery(skill, counts, 0.8) == {1, 2, 3}, "there is none above the last"


def test_locked_levels_are_left_to_the_floor() -> None:
    shares = _shares(Curriculum(["reverse"], {("reverse", 1): Counts(800, 800, 100, 0)}, 0, floor=0.0))
    assert shares["reverse", 2] > 0.99
    assert all(shares["reverse", level] == 0 for level in range(3, 8))


def test_levels_need_not_begin_at_one() -> None:
    assert opened_by_mastery(get_skill("first_letter"), {}, 0.8) == {3}
    assert opened_by_mastery(get_skill("first_letter"), {("first_letter", 4): Counts(9, 9)}, 0.8) == {3, 4, 5}
    assert opened_by_evidence(get_skill("first_letter"), {("first_letter", 4): Counts(9, 9)}, 0.8) == {
        3,
        4,
        5,
    }


@examples(15)
@given(st.integers(0, 2**32), st.integers(0, 1000), st.integers(0, 1000))
def test_it_samples_like_a_task_sampler(seed: int, round: int, step: int) -> None:
    tasks = Curriculum(SKILLS, {}, seed).sample(60, round, step)
    assert tasks == Curriculum(SKILLS, {}, seed).sample(60, round, step)
    assert len(tasks) == 60 and {task.skill for task in tasks} <= set(SKILLS)
    assert not any(is_reserved(task.prompt) for task in tasks)


def test_other_seeds_rounds_and_steps_give_other_tasks() -> None:
    sample = Curriculum(SKILLS, {}, 5).sample(16, 2, 3)
    assert sample != Curriculum(SKILLS, {}, 6).sample(16, 2, 3)
    assert all(sample != Curriculum(SKILLS, {}, 5).sample(16, *at) for at in ((3, 3), (2, 4), (3, 2)))
    assert sample != TaskSampler(SKILLS, 5).sample(16, 2, 3)


def test_excluded_prompts_are_not_drawn() -> None:
    excluded = frozenset(task.prompt for task in Curriculum(["add"], {}, 0, floor=1.0).sample(200, 0, 0)[:9])
    again = Curriculum(["add"], {}, 0, floor=1.0, exclude=excluded).sample(200, 0, 0)
    assert not excluded & {task.prompt for task in again}
    everything = frozenset(f"<max>{digit}=" for digit in range(10))
    with pytest.raises(SkillError, match="no prompt of difficulty 1 to train on"):
        Curriculum(["max"], {("max", 1): Counts(8, 0)}, 0, floor=0.0, exclude=everything).sample(1, 0, 0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Curriculum([], {}, 0), "at least one"),
        (lambda: Curriculum(["max", "max"], {}, 0), "none twice"),
        (lambda: Curriculum(["maxx"], {}, 0), "mean 'max'"),
        (lambda: Curriculum(["max"], {}, 0, floor=1.5), "floor = 1.5"),
        (lambda: Curriculum(["max"], {}, 0, mastery=1.0), "mastery = 1.0"),
    ],
)
def test_improper_arguments_are_refused(make: Callable[[], Curriculum], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


# A synthetic learner: one ability a skill, success logistic in ability less difficulty, GRPO's condition for learning:
# an ability grows only by a group whose samples do not all end alike.
GAIN = {"reverse": 0.03, "sort": 0.02, "next": 0.015, "add": 0.04}
GROUPS = 32  # a round
DISCOUNT = 0.8


def _groups_to_master_all(seed: int, follow: bool, by: str = "cell") -> int:
    """Groups of samples until the mean success rate over all cells is 0.8."""
    rng = np.random.default_rng(seed)
    ability = dict.fromkeys(SKILLS, 0.0)
    counts: dict[Cell, Counts] = {}
    for round in range(1, 1000):
        curriculum = Curriculum(SKILLS, counts, seed, floor=0.1 if follow else 1.0, by=by)
        success = {cell: 1 / (1 + np.exp(-3 * (ability[cell[0]] - cell[1] + 1))) for cell in curriculum.cells}
        if np.mean(list(success.values())) >= 0.8:
            return (round - 1) * GROUPS
        counts = {cell: Counts(*(DISCOUNT * np.array(count))) for cell, count in counts.items()}
        for place in curriculum.draw(rng, GROUPS):
            cell = curriculum.cells[place]
            solved = int(rng.binomial(SAMPLES, success[cell]))
            mixed = 0 < solved < SAMPLES
            ability[cell[0]] += GAIN[cell[0]] * mixed
            counts[cell] = Counts(
                *(np.array(counts.get(cell, Counts(0, 0))) + np.array((SAMPLES, solved, 1, mixed)))
            )
    raise AssertionError("never reached")


def test_a_learner_that_follows_it_needs_fewer_samples() -> None:
    """Measured: 43 % of the groups that uniform difficulty needs, on average over five seeds."""
    followed = [_groups_to_master_all(seed, follow=True) for seed in range(3)]
    evenly = [_groups_to_master_all(seed, follow=True, by="skill") for seed in range(3)]
    uniform = [_groups_to_master_all(seed, follow=False) for seed in range(3)]
    print(followed, evenly, uniform)
    assert np.mean(followed) < 0.6 * np.mean(uniform), (followed, uniform)
    assert np.mean(evenly) < 0.8 * np.mean(uniform), (evenly, uniform)
