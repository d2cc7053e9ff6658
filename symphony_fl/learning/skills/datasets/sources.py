"""Naming a dataset for a skill of rows: ``skill=folder-or-hub-name:split``.

    gsm8k=openai/gsm8k:train              GSM8K's training split from the Hugging Face hub
    hotpotqa=/data/hotpot:validation      a folder with validation.jsonl, .json or .parquet
    spider_sample=~/spider:dev            a Spider folder (``spider.py``), whose dev.json is asked

A folder is absolute or begins with ``~``: agents and server run in different folders.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from symphony_fl.learning.skills.base import Skill, SkillError
from symphony_fl.learning.skills.datasets.rows import with_rows
from symphony_fl.learning.skills.questions import QuestionSkill
from symphony_fl.learning.skills.sql.spider import SpiderWorld, with_folder
from symphony_fl.learning.skills.sql.text2sql import Text2SQL

_ENTRY = re.compile(r"(?P<skill>\w+)=(?P<place>[^\n\r\0]+):(?P<split>[A-Za-z0-9_][\w.-]*)", re.ASCII)
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)


@dataclass(frozen=True)
class Source:
    """Where a skill's rows come from."""

    skill: str
    place: str
    split: str

    def __str__(self) -> str:
        return f"{self.skill}={self.place}:{self.split}"


def parse_source(entry: str) -> Source:
    """The parts of an entry; nothing is read.

    Raises
    ------
    SkillError
        It has another form, or names a folder relative to the current one.
    """
    found = _ENTRY.fullmatch(entry)
    if found is None:
        raise SkillError(f"{entry!r}: must look like skill=folder-or-hub-name:split")
    place = found["place"]
    if not place.startswith(("/", "~")) and (not _HUB_NAME.fullmatch(place) or Path(place).exists()):
        raise SkillError(f"{entry!r}: {place!r} must be a hub name owner/name, or a folder from / or ~ on")
    return Source(found["skill"], place, found["split"])


def with_source(skill: Skill, source: Source) -> Skill:
    """The same skill over other rows, which are read now (Spider's when first asked).

    Raises
    ------
    SkillError
        Its tasks are generated, or the rows are not there or not of its format.
    """
    if isinstance(skill, QuestionSkill):
        return with_rows(skill, source.place, source.split)
    if isinstance(skill, Text2SQL) and isinstance(skill.world, SpiderWorld):
        return with_folder(skill, Path(source.place).expanduser(), source.split)
    raise SkillError(f"skill {skill.name!r} is generated: it takes no rows")
