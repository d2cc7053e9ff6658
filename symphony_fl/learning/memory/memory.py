"""The episodic memory M_i of section 5.1: what an agent tried, how it went, and with which adapter.

One SQLite file; its tables are described in `memory_schema`.

Writing. One round is one transaction, in SQLite's write-ahead log with full synchronisation: a kill leaves all of it or
nothing. An agent calls ``rewind(its home's round)`` when it opens, reads while it works, calls ``record(round, ...)``
and then commits its home. A kill between the last two leaves a round too many here, which the next ``rewind`` deletes.

Eviction. ``rewind`` evicts down to ``capacity``, always the oldest episode of the most crowded cell. So no cell ever
loses its newest ``capacity // cells`` episodes, however many come from other cells. It happens before a round's reading
and not while recording, so that a killed round, when it is repeated, reads what it read the first time. Until the next
``rewind`` a memory is larger by what was recorded meanwhile; one that is over its capacity records nothing more.

The tally is not touched by eviction: what an agent can do must not seem to change because old text was thrown away.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from symphony_fl.learning.memory.episodes import LOTS, Cell, Counts, Episode, lot, tally
from symphony_fl.learning.memory.retrieval import TextIndex
from symphony_fl.learning.memory.schema import FORMAT, SCHEMA
from symphony_fl.learning.skills.base import Task

_EPISODES = """
SELECT cell.skill, task.prompt, task.answer, cell.difficulty, task.origin, attempt, reward, lower(hex(policy)), round
FROM episode JOIN task ON task.id = episode.task JOIN cell ON cell.id = task.cell
WHERE episode.id = (SELECT max(id) FROM episode WHERE task = ? AND solved = 1)
"""


class MemoryFileError(RuntimeError):
    """A memory that cannot be opened, or is not ready to be written; the message names the file and what is wrong."""


class Memory:
    """An agent's memory, held open; one process at a time (an agent's home is locked while it is in use).

    Parameters
    ----------
    path : the file, made when it is not there; SQLite keeps ``-wal`` and ``-shm`` beside it while it is open
    capacity : episodes kept, see above
    window : rounds that `counts` looks back on
    searched : `similar` looks through the newest that many solved tasks of each difficulty

    Raises
    ------
    ValueError
        A parameter is below 1.
    MemoryFileError
        The file is no memory, of another format, or damaged where opening reads it. Damage that is met later, and a
        full disk, surface as ``sqlite3.DatabaseError``.
    """

    def __init__(self, path: Path, *, capacity: int, window: int = 20, searched: int = 16) -> None:
        for name, value in (("capacity", capacity), ("window", window), ("searched", searched)):
            if value < 1:
                raise ValueError(f"{name} = {value}: must be at least 1")
        self.path = path
        self.capacity = capacity
        self.window = window
        self.searched = searched
        self._indices: dict[str, tuple[TextIndex, list[tuple[int, str]]]] = {}
        self._database = sqlite3.connect(path, isolation_level=None)  # transactions are begun explicitly
        try:
            self._open()
        except sqlite3.DatabaseError as error:
            self._database.close()
            raise MemoryFileError(f"{path}: cannot be opened as a memory ({error})") from None
        except MemoryFileError:
            self._database.close()
            raise

    def close(self) -> None:
        self._forget_indices()
        self._database.close()

    def __len__(self) -> int:
        """Episodes held."""
        return self._number("SELECT coalesce(sum(episodes), 0) FROM cell")

    def newest(self) -> int:
        """The newest round recorded, 0 in a new memory."""
        return self._number("SELECT coalesce(max(round), 0) FROM tally")

    def figures(self) -> dict[str, float]:
        """By metric name: episodes held, and the distinct tasks that they tried."""
        tasks = self._number("SELECT count(*) FROM task")
        return {"memory/episodes": float(len(self)), "memory/tasks": float(tasks)}

    def record(self, round: int, episodes: Sequence[Episode]) -> None:
        """Remember all of a round, or nothing of it if anything is wrong or the process dies.

        Raises
        ------
        ValueError
            The round is not newer than all recorded, or an episode is of another round.
        MemoryFileError
            The memory is over its capacity: no `rewind` since the round that filled it.
        """
        others = sorted({episode.round for episode in episodes} - {round})
        if others:
            raise ValueError(f"round = {round}: got episodes of round {others[0]}, too")
        newest, size = self.newest(), len(self)
        if round <= newest:
            raise ValueError(
                f"round = {round}: must be above {newest}, the newest recorded; rewind to repeat it"
            )
        if size > self.capacity:
            raise MemoryFileError(
                f"{self.path}: {size} episodes, capacity {self.capacity}: rewind({newest}) evicts"
            )
        with self._transaction():
            for episode in episodes:
                self._insert(episode)
            for cell, counts in sorted(tally(episodes).items()):
                self._database.execute(
                    "INSERT INTO tally VALUES (?, ?, ?, ?, ?, ?, ?)", (round, *cell, *counts)
                )

    def rewind(self, round: int) -> None:
        """The memory as of ``round``, the home's last: what is newer is deleted, what is too much evicted.

        What an earlier call evicted does not come back. With one call before every round, that matters only to who
        goes back by several rounds, which an agent's home never does.
        """
        with self._transaction():
            self._database.execute("DELETE FROM episode WHERE round > ?", (round,))
            self._database.execute("DELETE FROM tally WHERE round > ?", (round,))
            self._database.execute("DELETE FROM tally WHERE round <= ?", (self.newest() - self.window,))
            sizes = dict(self._database.execute("SELECT id, episodes FROM cell ORDER BY id"))
            for cell, excess in evictions(sizes, self.capacity).items():
                self._database.execute(
                    "DELETE FROM episode WHERE id IN (SELECT id FROM episode WHERE cell = ? ORDER BY id LIMIT ?)",
                    (cell, excess),
                )

    def counts(self, discount: float = 1.0) -> dict[Cell, Counts]:
        """The tally per cell over the last ``window`` rounds, each round weighing ``discount`` ** its age.

        The newest recorded round has age 0. Cells without an attempt in the window are absent.

        Raises
        ------
        ValueError
            ``discount`` is outside (0, 1].
        """
        if not 0 < discount <= 1:
            raise ValueError(f"discount = {discount}: must be above 0 and at most 1")
        newest = self.newest()
        rows = self._database.execute(
            "SELECT round, skill, difficulty, attempts, solved, groups, mixed FROM tally WHERE round > ?",
            (newest - self.window,),
        )
        sums: dict[Cell, np.ndarray] = defaultdict(lambda: np.zeros(len(Counts._fields)))
        for round, skill, difficulty, *counted in rows:
            sums[skill, difficulty] += discount ** (newest - round) * np.array(counted)
        return {cell: Counts(*counts.tolist()) for cell, counts in sums.items()}

    def similar(self, task: Task, count: int) -> list[Episode]:
        """Up to ``count`` solved episodes of the task's skill as examples, the most similar task first.

        Never the task itself (an equal prompt): that would be its answer. Similarity: `retrieval.TextIndex`.

        Raises
        ------
        ValueError
            ``count`` is negative.
        """
        _check_count(count)
        if task.skill not in self._indices:
            solved = self._newest_solved(task.skill)
            self._indices[task.skill] = TextIndex([prompt for _, prompt in solved]), solved
        index, solved = self._indices[task.skill]
        same = sum(prompt == task.prompt for _, prompt in solved)  # one prompt may be there with two origins
        places = index.search(task.prompt, count + same)
        return [self._solved(solved[place][0]) for place in places if solved[place][1] != task.prompt][:count]

    def replay(self, rng: np.random.Generator, count: int) -> list[Episode]:
        """Up to ``count`` different tasks solved sometimes but not always, each with its newest right attempt.

        Every task has a lot, a number derived from its text; tasks are taken in the order of lots from a random one on,
        around the circle. That is a random sample without replacement at the cost of an index lookup.

        Raises
        ------
        ValueError
            ``count`` is negative.
        """
        _check_count(count)
        start = int(rng.integers(LOTS))
        sometimes = "SELECT id FROM task WHERE solved > 0 AND solved < attempts AND"
        above = self._database.execute(f"{sometimes} lot >= ? ORDER BY lot, id LIMIT ?", (start, count))
        tasks = [task for (task,) in above]
        below = self._database.execute(
            f"{sometimes} lot < ? ORDER BY lot, id LIMIT ?", (start, count - len(tasks))
        )
        tasks += [task for (task,) in below]
        return [self._solved(task) for task in tasks]

    def _open(self) -> None:
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = FULL")
        version = self._number("PRAGMA user_version")
        if version == 0 and self._number("SELECT count(*) FROM sqlite_master") == 0:
            self._database.executescript(f"BEGIN IMMEDIATE; {SCHEMA} COMMIT;")
        elif version != FORMAT:
            raise MemoryFileError(f"{self.path}: format {version}, this version reads {FORMAT}")

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """All or nothing. What is derived from the content is derived anew afterwards."""
        self._forget_indices()
        self._database.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._database.execute("COMMIT")
        except BaseException:
            if self._database.in_transaction:  # a full disk may have ended it already
                self._database.execute("ROLLBACK")
            raise

    def _insert(self, episode: Episode) -> None:
        task, execute = episode.task, self._database.execute
        execute(
            "INSERT INTO cell VALUES (NULL, ?, ?, 0) ON CONFLICT DO NOTHING", (task.skill, task.difficulty)
        )
        cell = self._number(
            "SELECT id FROM cell WHERE skill = ? AND difficulty = ?", task.skill, task.difficulty
        )
        key = (cell, task.prompt, task.answer, task.origin)
        execute(
            "INSERT INTO task VALUES (NULL, ?, ?, ?, ?, ?, 0, 0) ON CONFLICT DO NOTHING", (*key, lot(task))
        )
        number = self._number(
            "SELECT id FROM task WHERE cell = ? AND prompt = ? AND answer = ? AND origin = ?", *key
        )
        result = (episode.attempt, episode.reward, int(episode.solved), bytes.fromhex(episode.policy))
        execute(
            "INSERT INTO episode VALUES (NULL, ?, ?, ?, ?, ?, ?, ?)", (number, cell, episode.round, *result)
        )

    def _newest_solved(self, skill: str) -> list[tuple[int, str]]:
        """(id, prompt) of the newest solved tasks of each difficulty of a skill."""
        cells = self._database.execute(
            "SELECT id FROM cell WHERE skill = ? ORDER BY difficulty", (skill,)
        ).fetchall()
        query = "SELECT id, prompt FROM task WHERE cell = ? AND solved > 0 ORDER BY id DESC LIMIT ?"
        return [row for (cell,) in cells for row in self._database.execute(query, (cell, self.searched))]

    def _solved(self, task: int) -> Episode:
        """The newest right attempt at a task that has one."""
        row = self._database.execute(_EPISODES, (task,)).fetchone()
        return Episode(Task(*row[:5]), *row[5:])

    def _number(self, query: str, *values: str | int) -> int:
        return int(self._database.execute(query, values).fetchone()[0])

    def _forget_indices(self) -> None:
        for index, _ in self._indices.values():
            index.close()
        self._indices.clear()


def _check_count(count: int) -> None:
    if count < 0:  # which SQLite would read as no limit
        raise ValueError(f"count = {count}: must be at least 0")


def evictions(sizes: Mapping[int, int], capacity: int) -> dict[int, int]:
    """How many episodes each cell gives up until ``capacity`` are left, one at a time from the then most crowded cell.

    Among equals the one named last gives first. Cells that give nothing are absent.
    """
    level, room = max(sizes.values(), default=0), capacity
    for left, size in zip(range(len(sizes), 0, -1), sorted(sizes.values()), strict=True):
        if size * left > room:  # this cell and all larger ones are cut down to one level
            level = room // left
            room -= level * left
            break
        room -= size
    given = {}
    for cell, size in sizes.items():
        if size > level:
            kept = level + int(room > 0)
            room -= int(room > 0)
            given[cell] = size - kept
    return {cell: count for cell, count in given.items() if count > 0}
