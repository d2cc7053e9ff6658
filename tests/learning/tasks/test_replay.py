"""Replayed tasks in a batch: as many as asked for, from memory, never reserved, the same when a round is repeated."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from symphony_fl.learning.memory.episodes import Episode
from symphony_fl.learning.memory.memory import Memory
from symphony_fl.learning.skills import Task, get_skill
from symphony_fl.learning.tasks.replay import ReplaySampler
from symphony_fl.learning.tasks.task_sampler import TaskSampler, is_reserved


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Memory]:
    """Sixty tasks of the skill "max", reserved ones among them, each solved once and missed once."""
    rng = np.random.default_rng(0)
    tasks = [get_skill("max").generate(rng, 5) for _ in range(60)]
    assert any(is_reserved(task.prompt) for task in tasks)
    memory = Memory(tmp_path / "memory.sqlite", capacity=1000)
    memory.record(1, [Episode(task, task.answer, reward, "00", 1) for task in tasks for reward in (0.0, 1.0)])
    yield memory
    memory.close()


def _replayed(tasks: list[Task]) -> list[Task]:
    return [task for task in tasks if task.skill == "max"]


@pytest.mark.parametrize(("share", "mean"), [(0.0, 0.0), (0.3, 2.4), (1.0, 8.0)])
def test_the_share_is_right_on_average(memory: Memory, share: float, mean: float) -> None:
    sampler = ReplaySampler(TaskSampler(["sort"], 0), memory, share, 0)
    batches = [sampler.sample(8, 2, step) for step in range(300)]
    assert all(len(batch) == 8 for batch in batches)
    counts = [len(_replayed(batch)) for batch in batches]
    # Reserved tasks in the memory are passed over, a tenth or so of what was wanted.
    assert 0.75 * mean <= np.mean(counts) <= mean
    assert max(counts) <= np.ceil(mean)


def test_nothing_reserved_nor_excluded_is_replayed(memory: Memory) -> None:
    some = {
        task.prompt
        for task in _replayed(ReplaySampler(TaskSampler(["sort"], 0), memory, 1.0, 0).sample(9, 2, 0))
    }
    sampler = ReplaySampler(TaskSampler(["sort"], 0), memory, 1.0, 0, exclude=frozenset(some))
    prompts = {task.prompt for step in range(50) for task in sampler.sample(9, 2, step)}
    assert some and not some & prompts
    assert not any(map(is_reserved, prompts))


def test_the_same_seed_round_and_step_give_the_same_batch(memory: Memory) -> None:
    def sample(seed: int, round: int, step: int) -> list[Task]:
        return ReplaySampler(TaskSampler(["sort"], 0), memory, 0.5, seed).sample(8, round, step)

    assert sample(1, 2, 3) == sample(1, 2, 3)
    others = [_replayed(sample(*at)) for at in ((2, 2, 3), (1, 3, 3), (1, 2, 4))]
    assert all(other != _replayed(sample(1, 2, 3)) for other in others)


def test_an_empty_memory_leaves_the_batch_fresh(tmp_path: Path) -> None:
    memory = Memory(tmp_path / "empty.sqlite", capacity=10)
    fresh = TaskSampler(["sort"], 0)
    assert ReplaySampler(fresh, memory, 0.5, 0).sample(6, 1, 0) == fresh.sample(6, 1, 0)
    memory.close()


def test_an_improper_share_is_refused(memory: Memory) -> None:
    with pytest.raises(ValueError, match="share = 1.1"):
        ReplaySampler(TaskSampler(["sort"], 0), memory, 1.1, 0)
