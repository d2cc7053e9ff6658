"""A memory of 1,000,000 episodes: a round's lookups stay below 20 ms, and it still says what brute force says."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

import numpy as np
import pytest

from symphony_fl.learning.memory.episodes import Episode
from symphony_fl.learning.memory.memory import Memory
from symphony_fl.learning.skills import get_skill
from symphony_fl.learning.skills.symbolic import SYMBOLIC
from symphony_fl.learning.tasks.curriculum import Curriculum

EPISODES, A_ROUND, GROUP = 1_000_000, 4_000, 8
PROMPTS = 16  # tasks of a step, each with two examples out of memory; the step replays four
SKILLS = [skill.name for skill in SYMBOLIC]


def _fill(memory: Memory) -> None:
    """Groups of 8 attempts at tasks of all ten skills; half of the groups mixed."""
    rng = np.random.default_rng(0)
    for round in range(1, EPISODES // A_ROUND + 1):
        tasks = [get_skill(SKILLS[i]).generate(rng) for i in rng.integers(len(SKILLS), size=A_ROUND // GROUP)]
        chances = rng.choice([0.0, 0.3, 0.7, 1.0], size=len(tasks))
        rewards = (rng.random((GROUP, len(tasks))) < chances).astype(float)
        memory.record(
            round,
            [
                Episode(task, task.answer if reward else "?", reward, f"{round:064x}", round)
                for group in rewards.tolist()
                for task, reward in zip(tasks, group, strict=True)
            ],
        )


def _lookups(memory: Memory, skills: list[str], round: int) -> tuple[float, float]:
    """Milliseconds, of the clock and of this process, of all a round asks of a memory that was just opened."""
    rng = np.random.default_rng(round)
    before = np.array([time.perf_counter(), time.process_time()])
    counts = memory.counts(0.8)
    replayed = memory.replay(rng, 4)
    between = np.array([time.perf_counter(), time.process_time()])
    tasks = Curriculum(skills, counts, 0).sample(PROMPTS, round, 0)  # no lookup, not timed
    again = np.array([time.perf_counter(), time.process_time()])
    examples = [memory.similar(task, 2) for task in tasks]
    after = np.array([time.perf_counter(), time.process_time()])
    assert len(replayed) == 4 and sum(map(len, examples)) > PROMPTS, (
        "too little was found: too little was timed"
    )
    wall, own = 1e3 * (after - again + between - before)
    return float(wall), float(own)


@pytest.mark.slow
def test_a_million_episodes(tmp_path: Path) -> None:
    """The one test that judges time: the bound is part of what the memory promises."""
    path = tmp_path / "memory.sqlite"
    memory = Memory(path, capacity=EPISODES)
    start = time.perf_counter()
    _fill(memory)
    filled = time.perf_counter() - start
    assert len(memory) == EPISODES
    print(f"\nfilled in {filled:.0f} s, {path.stat().st_size / 1e6:.0f} MB")
    for skills in (SKILLS[:3], SKILLS):  # ten skills dealt out to four agents give at most three to each
        taken = []
        for round in range(21):
            memory.close()
            memory = Memory(path, capacity=EPISODES)
            taken.append(_lookups(memory, skills, round))
        wall, own = np.median(taken, axis=0)
        print(
            f"{len(skills)} skills: lookups of a round {wall:.1f} ms, of which {own:.1f} ms of this process"
        )
        assert own < 20, "not of the clock, which other processes slow down"
    _evict_a_round(memory)
    memory.close()


def _evict_a_round(memory: Memory) -> None:
    """One more round and the eviction it calls for; the counters still agree with a scan."""
    newest = memory.newest() + 1
    task = get_skill("sort").generate(np.random.default_rng(1), 3)
    memory.record(newest, [Episode(task, "?", 0.0, "00", newest)] * A_ROUND)
    start = time.perf_counter()
    memory.rewind(newest)
    print(f"evicted {A_ROUND} episodes in {1e3 * (time.perf_counter() - start):.0f} ms")
    assert len(memory) == EPISODES
    database = sqlite3.connect(memory.path)
    scanned = database.execute("SELECT cell, count(*) FROM episode GROUP BY cell ORDER BY cell").fetchall()
    assert scanned == database.execute("SELECT id, episodes FROM cell ORDER BY id").fetchall()
    database.close()
