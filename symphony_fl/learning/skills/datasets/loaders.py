"""Rows of GSM8K, HotpotQA and Natural Questions, in their published formats, from a folder or the Hugging Face hub.

    format     hub name                              row
    gsm8k      openai/gsm8k (main)                   question, answer: text that ends with "#### n"
    hotpotqa   hotpotqa/hotpot_qa (distractor)       id, question, answer, type, level,
                                                     supporting_facts {title, sent_id}, context {title, sentences}
    nq_open    google-research-datasets/nq_open      question, answer: list of accepted answers

A folder holds ``<split>.jsonl``, ``.json`` (a list) or ``.parquet``, or the hub's ``<split>-00000-of-0000n.parquet``.
``data/`` beside this file holds some dozens of rows in each format, written for this project: they make every skill
work offline, through the same reading code, and are far too few to compare with published figures.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from symphony_fl.learning.skills.base import SkillError
from symphony_fl.learning.skills.metrics import gsm8k_answer

Row = dict[str, Any]
Check = Callable[[Any], bool]

SHIPPED = Path(__file__).parent / "data"
SHIPPED_SPLIT = "train"
_ENDINGS = frozenset({".jsonl", ".json", ".parquet"})
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True)
class Format:
    """A dataset's rows: each field's check, and what the check asks for. ``config`` is the hub's configuration."""

    config: str | None
    fields: dict[str, tuple[Check, str]]

    def check(self, row: Row, where: str) -> None:
        """Raises SkillError, naming row and field, unless every field is there and right; others are ignored."""
        for field, (is_right, wanted) in self.fields.items():
            if field not in row:
                raise SkillError(f"{where}: no field {field!r} (there are: {', '.join(row)})")
            if not is_right(row[field]):
                raise SkillError(f"{where}: field {field!r} = {str(row[field])[:80]!r} must be {wanted}")


def load_rows(format: str, source: str, split: str) -> list[Row]:
    """All rows of one split, checked.

    ``source`` is a folder if there is one of that path, else a hub name ``owner/name``.

    Raises
    ------
    SkillError
        Unknown format, no such source or split, or a row that is not of the format; the message names folder,
        file, row (counted from 1) and field.
    """
    if format not in FORMATS:
        raise SkillError(f"unknown dataset format {format!r} (known: {', '.join(FORMATS)})")
    folder = Path(source).expanduser()
    if folder.is_dir():
        return [row for file in _files(folder, split) for row in _read_file(file, FORMATS[format])]
    if not _HUB_NAME.fullmatch(source):
        raise SkillError(f"rows of {format}: source {source!r} is neither a folder nor a hub name owner/name")
    return _read_hub(source, split, FORMATS[format])


def _files(folder: Path, split: str) -> list[Path]:
    names = re.compile(rf"{re.escape(split)}(-\d+-of-\d+)?")
    files = sorted(
        file
        for file in folder.iterdir()
        if file.suffix in _ENDINGS and names.fullmatch(file.stem) and file.is_file()
    )
    if not files:
        raise SkillError(f"folder {folder}: no {split}.jsonl, {split}.json or {split}.parquet in it")
    if len({file.suffix for file in files}) > 1:
        raise SkillError(
            f"folder {folder}: split {split!r} is there twice: {', '.join(f.name for f in files)}"
        )
    return files


def _read_file(file: Path, format: Format) -> list[Row]:
    """JSON is read here, not by ``datasets``: its reader loses line numbers and crashes on a line that says null."""
    if file.suffix == ".parquet":
        rows = _read_parquet(file)
    else:
        try:
            rows = _parse(file.read_text("utf-8"), file.suffix == ".jsonl", str(file))
        except UnicodeDecodeError as error:
            raise SkillError(f"{file}: not UTF-8: {error}") from None
    return _checked(rows, str(file), format)


def _parse(text: str, lines: bool, where: str) -> list[Any]:
    if not lines:
        rows = _parse_value(text, where)
        if not isinstance(rows, list):
            raise SkillError(f"{where}: must be a list of rows, is {text.strip()[:40]!r}")
        return rows
    filled = [line for line in text.split("\n") if line.strip()]
    return [_parse_value(line, f"{where}, row {number}") for number, line in enumerate(filled, start=1)]


def _parse_value(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SkillError(f"{where}: not readable as JSON: {error}") from None


def _read_parquet(file: Path) -> list[Row]:
    import datasets  # imports pyarrow and pandas

    with tempfile.TemporaryDirectory() as cache:  # a lasting cache would outlive edits of the file
        try:
            return list(datasets.Dataset.from_parquet(str(file), cache_dir=cache, keep_in_memory=True))
        except (datasets.exceptions.DatasetsError, ValueError, OSError) as error:
            raise SkillError(f"{file}: not readable as parquet: {error.__cause__ or error}") from error


def _read_hub(name: str, split: str, format: Format) -> list[Row]:
    import datasets

    try:
        rows = datasets.load_dataset(name, format.config, split=split, trust_remote_code=False).to_list()
    except (datasets.exceptions.DatasetsError, ValueError, OSError) as error:
        raise SkillError(f"hub dataset {name!r}, split {split!r}: {error}") from error
    return _checked(rows, f"hub dataset {name!r}, split {split!r}", format)


def _checked(rows: list[Any], where: str, format: Format) -> list[Row]:
    if not rows:
        raise SkillError(f"{where}: no rows")
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            raise SkillError(f"{where}, row {number}: must be an object of fields, is {str(row)[:40]!r}")
        format.check(row, f"{where}, row {number}")
    return rows


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_solution(value: Any) -> bool:
    return isinstance(value, str) and gsm8k_answer(value) is not None


def _is_list_of(is_right: Check) -> Check:
    return lambda value: isinstance(value, list) and bool(value) and all(map(is_right, value))


def _is_pair(first: str, of_first: Check, second: str, of_second: Check) -> Check:
    """Two lists of one length under these keys, as the hub stores a list of pairs."""

    def is_right(value: Any) -> bool:
        if not (isinstance(value, dict) and {first, second} <= value.keys()):
            return False
        left, right = value[first], value[second]
        return _is_list_of(of_first)(left) and _is_list_of(of_second)(right) and len(left) == len(right)

    return is_right


_TEXT: tuple[Check, str] = (_is_text, "text that is not empty")
_is_number: Check = lambda value: isinstance(value, int) and value >= 0  # noqa: E731
_is_string: Check = lambda value: isinstance(value, str)  # noqa: E731

FORMATS: dict[str, Format] = {
    "gsm8k": Format(
        config="main",
        fields={"question": _TEXT, "answer": (_is_solution, 'text that ends with "#### " and a number')},
    ),
    "hotpotqa": Format(
        config="distractor",
        fields={
            "id": _TEXT,
            "question": _TEXT,
            "answer": _TEXT,
            "type": (lambda value: value in ("bridge", "comparison"), "bridge or comparison"),
            "level": (lambda value: value in ("easy", "medium", "hard"), "easy, medium or hard"),
            "supporting_facts": (
                _is_pair("title", _is_text, "sent_id", _is_number),
                "{title: [text], sent_id: [number]} of one length",
            ),
            "context": (
                _is_pair("title", _is_text, "sentences", _is_list_of(_is_string)),
                "{title: [text], sentences: [[text]]} of one length",
            ),
        },
    ),
    "nq_open": Format(
        config=None,
        fields={
            "question": _TEXT,
            "answer": (_is_list_of(_is_text), "a list of accepted answers, not empty"),
        },
    ),
}
