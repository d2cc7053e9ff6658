"""Held-out and training tasks: disjoint as texts for every seed, deterministic, and enough of them."""

from __future__ import annotations

import hashlib
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples import examples
from symphony_fl.learning.skills import SKILLS, SkillError, Task
from symphony_fl.learning.skills.symbolic import SYMBOLIC
from symphony_fl.learning.tasks import task_sampler as module
from symphony_fl.learning.tasks.task_sampler import TaskSampler, held_out, is_reserved

NAMES = [skill.name for skill in SYMBOLIC]


def test_reserved_is_a_tenth_by_sha256() -> None:
    texts = [f"<sort>{number}=" for number in range(5000)]
    by_hand = [int(hashlib.sha256(text.encode()).hexdigest()[:16], 16) % 10 == 0 for text in texts]
    assert [is_reserved(text) for text in texts] == by_hand
    assert 0.08 < np.mean(by_hand) < 0.12


@examples(20)
@given(st.integers(0, 2**32), st.integers(0, 2**32), st.integers(0, 1000), st.integers(0, 1000))
def test_training_never_meets_a_held_out_prompt(held_seed: int, seed: int, round: int, step: int) -> None:
    held = {task.prompt for task in held_out(NAMES, 10, held_seed)}
    trained = {task.prompt for task in TaskSampler(NAMES, seed).sample(100, round, step)}
    assert not held & trained
    assert all(map(is_reserved, held)) and not any(map(is_reserved, trained))


def test_held_out_tasks_are_distinct_grouped_and_enough() -> None:
    tasks = held_out(NAMES, 100, 0)
    assert len({task.prompt for task in tasks}) == 1000
    assert [task.skill for task in tasks[::100]] == NAMES
    assert tasks == held_out(NAMES, 100, 0) != held_out(NAMES, 100, 1)


def test_held_out_tasks_of_a_skill_do_not_depend_on_the_others() -> None:
    alone = held_out(["swap"], 15, 3)
    assert [task for task in held_out(NAMES, 15, 3) if task.skill == "swap"] == alone


def test_sample_is_a_function_of_seed_round_and_step() -> None:
    sample = TaskSampler(NAMES, 5).sample(16, 2, 3)
    assert sample == TaskSampler(NAMES, 5).sample(16, 2, 3)
    others = [
        TaskSampler(NAMES, 6).sample(16, 2, 3),
        *(TaskSampler(NAMES, 5).sample(16, r, s) for r, s in ((3, 3), (2, 4), (3, 2))),
    ]
    assert all(sample != other for other in others)


def test_sample_shares_the_tasks_out_evenly() -> None:
    counts = Counter(task.skill for task in TaskSampler(["max", "add", "sort"], 0).sample(17, 0, 0))
    assert sorted(counts.values()) == [5, 6, 6]


def test_excluded_prompts_are_not_drawn() -> None:
    first = frozenset(task.prompt for task in TaskSampler(["add"], 0).sample(300, 0, 0))
    again = TaskSampler(["add"], 0, first).sample(300, 0, 0)
    assert not first & {task.prompt for task in again}


class _Three:
    """A skill of three prompts, of which one is reserved."""

    name = "three"
    difficulties = range(1, 2)
    max_new_tokens = 2
    prompts = (
        *[p for p in map(str, range(100)) if is_reserved(p)][:1],
        *[p for p in map(str, range(100)) if not is_reserved(p)][:2],
    )

    def generate(self, rng: np.random.Generator, difficulty: int | None = None) -> Task:
        return Task("three", self.prompts[rng.integers(3)], "x")

    def verify(self, task: Task, completion: str) -> float:
        return float(completion == task.answer)


def test_a_small_skill_says_what_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SKILLS, "three", _Three())
    assert [task.prompt for task in held_out(["three"], 1, 0)] == [_Three.prompts[0]]
    with pytest.raises(SkillError, match="'three' has only about 1 held-out prompts and 2 were asked for"):
        held_out(["three"], 2, 0)
    assert {task.prompt for task in TaskSampler(["three"], 0).sample(50, 0, 0)} == set(_Three.prompts[1:])
    with pytest.raises(SkillError, match="'three': 1000 draws gave no prompt to train on"):
        TaskSampler(["three"], 0, frozenset(_Three.prompts[1:])).sample(1, 0, 0)


@pytest.mark.parametrize(
    ("skills", "message"),
    [([], "at least one skill"), (["max", "max"], "named twice"), (["maxx"], "mean 'max'")],
)
def test_a_sampler_without_proper_skills_is_refused(skills: list[str], message: str) -> None:
    with pytest.raises(SkillError, match=message):
        TaskSampler(skills, 0)


def test_the_two_streams_of_one_seed_differ() -> None:
    assert module._HELD_OUT_TAG != module._TRAIN_TAG
