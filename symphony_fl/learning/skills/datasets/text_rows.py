"""Text fields of a dataset's rows, from a local JSON file, or a folder or hub name that the `datasets` library reads.

Formats with nested fields: `loaders.py`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from symphony_fl.learning.skills.base import SkillError


def read_rows(source: str | Path, split: str, fields: Sequence[str]) -> list[dict[str, str]]:
    """The named text fields of every row.

    Parameters
    ----------
    source : a `.json` (one list), `.jsonl` (one object a line) or `.parquet` file; else what
        `datasets.load_dataset` takes.
    split : the split of a `datasets` source; a file is one split.

    Raises
    ------
    SkillError
        The file is not of its format, or a row lacks a field or holds no text in it.
    FileNotFoundError
        There is no such file; or what `datasets` raises for its sources.
    """
    path = Path(source)
    if path.suffix in (".json", ".jsonl"):
        rows = _read_file(path)
    elif path.suffix == ".parquet":
        rows = _read_parquet(path)
    else:
        rows = _read_dataset(str(source), split)
    for place, row in enumerate(rows):
        for field in fields:
            if not isinstance(row, dict) or not isinstance(row.get(field), str):
                raise SkillError(f"{source}: row {place}: {field!r} must be text")
    return [{field: row[field] for field in fields} for row in rows]


def _read_file(path: Path) -> list[Any]:
    text = path.read_text(encoding="utf-8")
    try:
        rows = (
            json.loads(text)
            if path.suffix == ".json"
            else [json.loads(line) for line in text.splitlines() if line]
        )
    except ValueError as error:
        raise SkillError(f"{path}: not JSON: {error}") from None
    if not isinstance(rows, list):
        raise SkillError(f"{path}: must be a list of rows, not a {type(rows).__name__}")
    return rows


def _read_parquet(path: Path) -> list[Any]:
    from pyarrow import parquet

    try:
        rows: list[Any] = parquet.read_table(path).to_pylist()
    except (ValueError, OSError) as error:
        raise SkillError(f"{path}: not Parquet: {error}") from None
    return rows


def _read_dataset(source: str, split: str) -> list[Any]:
    import datasets  # seconds: only where it is used

    return list(datasets.load_dataset(source, split=split, trust_remote_code=False))
