"""Which of some texts are most like another: BM25 over trigrams, by SQLite's FTS5 in memory.

Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond", 2009, with FTS5's k1 = 1.2, b = 0.75.
Tokens are the windows of three characters, since questions of one skill share no whole words (``abcd``, ``31 or 47``).
What all texts begin with, a skill's few-shot examples, is left out of the index: it tells no two of them apart.
"""

from __future__ import annotations

import os.path
import sqlite3
from collections.abc import Sequence

_WINDOW = 3  # characters of FTS5's trigram tokenizer


class TextIndex:
    """An index over ``texts``, a derived thing: built from what is remembered, never stored."""

    def __init__(self, texts: Sequence[str]) -> None:
        common = os.path.commonprefix(list(texts)) if len(set(texts)) > 1 else ""
        # Two characters of it stay, so that a question's first character has a window of its own.
        self._common = common[: max(0, len(common) - _WINDOW + 1)]
        self._database = sqlite3.connect(":memory:", isolation_level=None)
        # Contentless: the places are all that is asked for.
        self._database.execute(
            "CREATE VIRTUAL TABLE texts USING fts5(text, content='', tokenize='trigram case_sensitive 1')"
        )
        self._database.execute("BEGIN")  # one transaction: 10 times faster than one each
        rows = ((place, text.removeprefix(self._common)) for place, text in enumerate(texts))
        self._database.executemany("INSERT INTO texts (rowid, text) VALUES (?, ?)", rows)
        self._database.execute("COMMIT")

    def search(self, text: str, count: int) -> list[int]:
        """Places in ``texts`` of the up to ``count`` most similar ones, best first.

        Texts without a trigram in common with ``text`` are never among them, so there may be none.
        """
        rest = text.removeprefix(self._common)
        windows = {rest[start : start + _WINDOW] for start in range(len(rest) - _WINDOW + 1)}
        # A query is a C string: it ends at a NUL.
        phrases = ['"' + window.replace('"', '""') + '"' for window in sorted(windows) if "\0" not in window]
        if not phrases:
            return []
        found = self._database.execute(
            "SELECT rowid FROM texts WHERE texts MATCH ? ORDER BY rank, rowid LIMIT ?",
            (" OR ".join(phrases), count),
        )
        return [place for (place,) in found]

    def close(self) -> None:
        self._database.close()
