"""The episodic memory: what it counts against brute force, what a kill leaves, what it evicts, what it finds."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from examples import THOROUGH, examples
from symphony_fl.learning.memory.episodes import Counts, Episode
from symphony_fl.learning.memory.memory import Memory, MemoryFileError, evictions
from symphony_fl.learning.memory.schema import FORMAT
from symphony_fl.learning.skills import Task

POLICY = "ab" * 32


def _episode(round: int, prompt: str, reward: float = 1.0, level: int = 1, skill: str = "sort") -> Episode:
    return Episode(Task(skill, prompt, prompt[::-1], level), f"tried {prompt}", reward, POLICY, round)


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Memory]:
    opened = Memory(tmp_path / "memory.sqlite", capacity=100)
    yield opened
    opened.close()


def _dump(memory: Memory) -> list[str]:
    """Everything in the file, as SQL."""
    database = sqlite3.connect(memory.path)
    try:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return list(database.iterdump())
    finally:
        database.close()


# What is remembered


def test_episodes_come_back_as_they_were(memory: Memory) -> None:
    task = Task("code", 'a "quoted"\0 prompt\n', "ünï", 3, "received")
    wrong = Episode(task, "\0\n", 0.25, "00", 7)
    right = Episode(task, "", 1.0, POLICY, 7)
    memory.record(7, [right, wrong])
    assert memory.replay(np.random.default_rng(0), 3) == [right]
    assert (memory.newest(), len(memory)) == (7, 2)


def test_counts_weigh_rounds_by_their_age_and_forget_those_outside_the_window(tmp_path: Path) -> None:
    memory = Memory(tmp_path / "memory.sqlite", capacity=100, window=3)
    for round in (1, 3, 4, 5):
        memory.record(round, [_episode(round, "ab"), _episode(round, "cd", 0.5)])
    assert memory.counts() == {("sort", 1): Counts(6, 3, 6, 0)}
    assert memory.counts(0.5) == {("sort", 1): Counts(3.5, 1.75, 3.5, 0)}
    memory.close()


def test_a_nearly_right_answer_is_not_solved(memory: Memory) -> None:
    memory.record(1, [_episode(1, "ab", 0.99), _episode(1, "ab", 1.0), _episode(1, "ab", 0.1 * 3 + 0.7)])
    assert memory.counts() == {("sort", 1): Counts(3, 2, 1, 1)}


def test_similar_tasks_are_of_the_skill_solved_and_not_the_task_itself(memory: Memory) -> None:
    prompts = ["<sort>abcdef=", "<sort>qrscde=", "<sort>abcdeg=", "<sort>mnop="]
    memory.record(1, [_episode(1, prompt) for prompt in prompts])
    memory.record(2, [_episode(2, "<sort>abcdefg=", 0.0), _episode(2, "<next>abcdef=", skill="next")])
    found = memory.similar(Task("sort", "<sort>abcdef=", ""), 2)
    assert [episode.task.prompt for episode in found] == ["<sort>abcdeg=", "<sort>qrscde="]
    assert found[0] == _episode(1, "<sort>abcdeg=")
    memory.record(3, [_episode(3, "<sort>abcdefg=")])
    assert memory.similar(Task("sort", "<sort>abcdef=", ""), 1) == [_episode(3, "<sort>abcdefg=")]
    assert memory.similar(Task("max", "<max>1,2=", ""), 2) == []


def test_replay_is_of_tasks_solved_sometimes(memory: Memory) -> None:
    for letter in "abcdef":
        memory.record(
            ord(letter), [_episode(ord(letter), letter * 3), _episode(ord(letter), letter * 3, 0.0)]
        )
    memory.record(200, [_episode(200, "always"), _episode(200, "always"), _episode(200, "never", 0.0)])
    every = {letter * 3 for letter in "abcdef"}
    assert {episode.task.prompt for episode in memory.replay(np.random.default_rng(0), 10)} == every
    drawn = Counter(
        episode.task.prompt
        for seed in range(100)
        for episode in memory.replay(np.random.default_rng(seed), 2)
    )
    assert drawn.keys() == every and sum(drawn.values()) == 200
    assert memory.replay(np.random.default_rng(3), 4) == memory.replay(np.random.default_rng(3), 4)
    assert all(episode.solved for episode in memory.replay(np.random.default_rng(3), 4))


# What is refused


def test_a_round_is_recorded_once_and_whole(memory: Memory) -> None:
    memory.record(2, [_episode(2, "ab")])
    before = _dump(memory)
    with pytest.raises(ValueError, match="round = 2: must be above 2"):
        memory.record(2, [_episode(2, "cd")])
    with pytest.raises(ValueError, match="round = 3: got episodes of round 4"):
        memory.record(3, [_episode(3, "cd"), _episode(4, "cd")])
    broken = _episode(3, "ef")
    object.__setattr__(broken, "policy", "no hex")  # fails in the middle of the transaction
    with pytest.raises(ValueError, match="non-hexadecimal"):
        memory.record(3, [_episode(3, "cd"), broken])
    assert _dump(memory) == before
    memory.record(3, [_episode(3, "cd")])
    assert len(memory) == 2


@pytest.mark.parametrize(
    ("reward", "policy", "round", "prompt", "message"),
    [
        (1.1, POLICY, 1, "ab", "reward = 1.1"),
        (float("nan"), POLICY, 1, "ab", "reward = nan"),
        (1.0, "xyz", 1, "ab", "policy = 'xyz'"),
        (1.0, "", 1, "ab", "policy = ''"),
        (1.0, POLICY, 0, "ab", "round = 0"),
        (1.0, POLICY, 1, "\ud800", "surrogate"),
    ],
)
def test_improper_episodes_are_refused(
    reward: float, policy: str, round: int, prompt: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Episode(Task("sort", prompt, ""), "", reward, policy, round)


def test_improper_arguments_are_refused(memory: Memory) -> None:
    with pytest.raises(ValueError, match="capacity = 0"):
        Memory(memory.path, capacity=0)
    with pytest.raises(ValueError, match="discount = 0"):
        memory.counts(0.0)
    with pytest.raises(ValueError, match="count = -1"):
        memory.replay(np.random.default_rng(0), -1)
    with pytest.raises(ValueError, match="count = -1"):
        memory.similar(Task("sort", "ab", ""), -1)


def test_what_is_no_memory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no database at all, but long enough to have a header " * 9)
    with pytest.raises(MemoryFileError, match="cannot be opened as a memory"):
        Memory(tmp_path / "text", capacity=1)
    other = sqlite3.connect(tmp_path / "other")
    other.execute("CREATE TABLE something (x)")
    other.close()
    with pytest.raises(MemoryFileError, match=f"format 0, this version reads {FORMAT}"):
        Memory(tmp_path / "other", capacity=1)


# What is evicted


@given(st.lists(st.integers(0, 40), max_size=8), st.integers(1, 100))
def test_evictions_are_those_of_the_most_crowded_cell_one_by_one(sizes: list[int], capacity: int) -> None:
    left = dict(enumerate(sizes))
    while sum(left.values()) > capacity:
        left[max(left, key=lambda cell: (left[cell], cell))] -= 1
    given = evictions(dict(enumerate(sizes)), capacity)
    assert {cell: size - given.get(cell, 0) for cell, size in enumerate(sizes)} == left
    assert all(left[cell] >= min(size, capacity // len(sizes)) for cell, size in enumerate(sizes))


def test_the_oldest_of_the_most_crowded_cell_go_first(tmp_path: Path) -> None:
    memory = Memory(tmp_path / "memory.sqlite", capacity=5)
    memory.record(1, [_episode(1, "ab", level=2), *(_episode(1, f"old {number}") for number in range(4))])
    memory.record(2, [_episode(2, f"new {number}") for number in range(3)])
    with pytest.raises(MemoryFileError, match=r"8 episodes, capacity 5: rewind\(2\) evicts"):
        memory.record(3, [])
    memory.rewind(2)
    assert len(memory) == 5
    found = {episode.task.prompt for episode in memory.similar(Task("sort", "old new ab ", ""), 9)}
    assert found == {"old 3", "new 0", "new 1", "new 2"}  # no trigram of "ab" is in the query
    assert memory.counts() == {("sort", 1): Counts(7, 7, 7, 0), ("sort", 2): Counts(1, 1, 1, 0)}, (
        "eviction is not a failure"
    )
    memory.close()


def test_a_killed_round_reads_the_same_when_it_is_repeated(tmp_path: Path) -> None:
    """Also when recording it filled the memory: eviction waits for the round after."""
    memory = Memory(tmp_path / "memory.sqlite", capacity=6)
    memory.record(1, [_episode(1, f"{number:03}", float(number % 2)) for number in range(6)])
    memory.rewind(1)
    first = _dump(memory)
    memory.record(2, [_episode(2, f"{number:03}") for number in range(3, 9)])
    repeated = _dump(memory)
    memory.rewind(1)  # the home has not committed round 2
    assert _dump(memory) == first
    memory.record(2, [_episode(2, f"{number:03}") for number in range(3, 9)])
    assert _dump(memory) == repeated
    memory.close()


class Sequences(RuleBasedStateMachine):
    """Any order of record, rewind (which evicts) and reopening, against lists and a brute-force recount."""

    @initialize(capacity=st.integers(1, 25), window=st.integers(1, 4))
    def open(self, capacity: int, window: int) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.path, self.capacity, self.window = Path(self.folder.name) / "memory.sqlite", capacity, window
        self.memory = Memory(self.path, capacity=capacity, window=window)
        self.held: list[Episode] = []  # in the order recorded
        self.recorded: list[Episode] = []  # evicted or not

    @precondition(lambda self: len(self.held) <= self.capacity)
    @rule(
        gap=st.integers(1, 2),
        what=st.lists(
            st.tuples(st.sampled_from("abc"), st.integers(1, 2), st.sampled_from([0.0, 0.5, 1.0])),
            max_size=12,
        ),
    )
    def record(self, gap: int, what: list[tuple[str, int, float]]) -> None:
        round = self.memory.newest() + gap
        episodes = [_episode(round, letter * 3, reward, level) for letter, level, reward in what]
        self.memory.record(round, episodes)
        self.held += episodes
        self.recorded += episodes

    @rule(back=st.integers(0, 3))
    def rewind(self, back: int) -> None:
        round = self.memory.newest() - back
        self.memory.rewind(round)
        self.recorded = [episode for episode in self.recorded if episode.round <= round]
        newest = max((episode.round for episode in self.recorded), default=0)
        self.recorded = [episode for episode in self.recorded if episode.round > newest - self.window]
        self.held = [episode for episode in self.held if episode.round <= round]
        while len(self.held) > self.capacity:
            sizes = Counter(episode.task.difficulty for episode in self.held)
            most = max(sizes.values())
            first = self._order()
            crowded = max((level for level in sizes if sizes[level] == most), key=first.index)
            self.held.remove(next(one for one in self.held if one.task.difficulty == crowded))

    def _order(self) -> list[int]:
        """Difficulties in the order of their cells, which is the tie-break of an eviction."""
        database = sqlite3.connect(self.path)
        found = [level for (level,) in database.execute("SELECT difficulty FROM cell ORDER BY id")]
        database.close()
        return found

    def _recount(self, after: int) -> dict[tuple[str, int], Counts]:
        groups: dict[tuple[str, int, int, str], list[Episode]] = defaultdict(list)
        for episode in self.recorded:
            if episode.round > after:
                task = episode.task
                groups[task.skill, task.difficulty, episode.round, task.prompt].append(episode)
        found: dict[tuple[str, int], Counts] = {}
        for (skill, level, _, _), group in groups.items():
            new = (len(group), sum(e.solved for e in group), 1, len({e.reward for e in group}) > 1)
            before = found.get((skill, level), Counts(0, 0))
            found[skill, level] = Counts(*(a + b for a, b in zip(before, new, strict=True)))
        return found

    @rule()
    def reopen(self) -> None:
        self.memory.close()
        self.memory = Memory(self.path, capacity=self.capacity, window=self.window)

    @invariant()
    def counters_are_those_of_a_recount(self) -> None:
        assert len(self.memory) == len(self.held)
        newest = self.memory.newest()
        assert newest == max((episode.round for episode in self.recorded), default=0)
        assert self.memory.counts() == self._recount(newest - self.window)
        tasks: dict[tuple[str, int], list[bool]] = defaultdict(list)
        for episode in self.held:
            tasks[episode.task.prompt, episode.task.difficulty].append(episode.solved)
        database = sqlite3.connect(self.path)
        rows = database.execute(
            "SELECT prompt, difficulty, attempts, solved, episodes FROM task JOIN cell ON cell.id = task.cell"
        ).fetchall()
        assert database.execute("SELECT count(*) FROM cell").fetchone()[0] == len({row[1] for row in rows})
        database.close()
        assert {(row[0], row[1]): row[2:4] for row in rows} == {
            task: (len(all_), sum(all_)) for task, all_ in tasks.items()
        }
        sizes = Counter(episode.task.difficulty for episode in self.held)
        assert all(row[4] == sizes[row[1]] for row in rows)

    @invariant()
    def replay_finds_what_a_search_through_all_finds(self) -> None:
        outcomes: dict[Task, set[bool]] = defaultdict(set)
        for episode in self.held:
            outcomes[episode.task].add(episode.solved)
        replayed = self.memory.replay(np.random.default_rng(0), 10)
        assert {one.task for one in replayed} == {task for task, all_ in outcomes.items() if len(all_) == 2}
        for one in replayed:
            assert one.round == max(e.round for e in self.held if e.task == one.task and e.solved)

    def teardown(self) -> None:
        if hasattr(self, "memory"):
            self.memory.close()
            self.folder.cleanup()


TestSequences = Sequences.TestCase
TestSequences.settings = settings(examples(40), stateful_step_count=15)


# What a kill leaves

WRITER = """
import sys
from pathlib import Path
from symphony_fl.learning.memory.episodes import Episode
from symphony_fl.learning.memory.memory import Memory
from symphony_fl.learning.skills.base import Task
memory = Memory(Path(sys.argv[1]), capacity=1500)
print("ready", flush=True)
for round in range(memory.newest() + 1, 100000):
    memory.rewind(round - 1)
    tasks = [Task("sort", f"{round} {number}", "x" * 200, number % 5) for number in range(50)]
    memory.record(round, [Episode(task, "y" * 300, i / 3, "ab", round) for task in tasks for i in range(4)])
    print(round, flush=True)
"""


def _check_whole(path: Path) -> int:
    """The newest round of a memory killed while it was written, after a recount of all it holds."""
    memory = Memory(path, capacity=1500)
    _dump(memory)  # with an integrity check
    newest = memory.newest()
    database = sqlite3.connect(path)
    rounds = dict(database.execute("SELECT round, count(*) FROM episode GROUP BY round"))
    tally = dict(database.execute("SELECT round, sum(attempts) FROM tally GROUP BY round"))
    stored = database.execute("SELECT id, attempts, solved FROM task").fetchall()
    counted = database.execute("SELECT task, count(*), sum(solved) FROM episode GROUP BY task").fetchall()
    database.close()
    assert max(rounds, default=0) == newest and rounds.get(newest, 200) == 200, "a round half written"
    assert set(tally.values()) <= {200}
    assert sorted(stored) == sorted(counted)
    memory.rewind(newest - 1)
    assert memory.newest() == max(newest - 1, 0)
    memory.close()
    return newest


def test_kill_9_at_any_instant_leaves_whole_rounds(tmp_path: Path) -> None:
    path, newest, inside = tmp_path / "memory.sqlite", 0, 0
    delays = np.random.default_rng(0).uniform(0.0, 0.15, size=15 if THOROUGH else 5)
    for number, delay in enumerate(delays):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        process.stdout.readline()
        printed = (
            [] if number else [int(process.stdout.readline())]
        )  # however slow the machine is: one is recorded
        time.sleep(delay)
        os.kill(process.pid, signal.SIGKILL)
        printed += [int(line) for line in process.stdout.read().split()]
        process.stdout.close()
        process.wait()
        inside += (tmp_path / "memory.sqlite-wal").exists()
        found = _check_whole(path)
        last = printed[-1] if printed else max(newest - 1, 0)
        assert last <= found <= last + 1, (
            "a round that was recorded is there, at most the one in progress is more"
        )
        newest = found
    assert newest > 0 and inside == len(delays), (
        "nothing was written, or not killed while open: the test tested nothing"
    )
