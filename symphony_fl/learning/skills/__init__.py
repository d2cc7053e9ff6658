"""The skills: what an agent can be asked, and how an answer is checked. No torch below this line.

    base.py         Task, the Skill protocol
    symbolic.py     ten skills on short strings and small numbers, for the embedded model
    arithmetic.py   few-shot arithmetic and word problems, for pretrained models
    code.py         outputs, inputs and programs of small functions; code_programs.py: where those come from
    text2sql.py     questions about a database; sql_tables.py, sql_questions.py: generated ones; spider.py: Spider's
    rows.py         reads datasets; text.py: finds questions in prompts and answers in completions

A new family is a file with a tuple of skills, listed in ``_FAMILIES``.
"""

from __future__ import annotations

import difflib

from symphony_fl.learning.skills.arithmetic import ARITHMETIC
from symphony_fl.learning.skills.base import ProposalError, ProposingSkill, Skill, SkillError, Task
from symphony_fl.learning.skills.code import CODE
from symphony_fl.learning.skills.spider import SPIDER_SAMPLE
from symphony_fl.learning.skills.symbolic import SYMBOLIC
from symphony_fl.learning.skills.text2sql import TEXT2SQL

_FAMILIES: tuple[tuple[Skill, ...], ...] = (SYMBOLIC, ARITHMETIC, CODE, (TEXT2SQL, SPIDER_SAMPLE))

SKILLS: dict[str, Skill] = {skill.name: skill for family in _FAMILIES for skill in family}


def get_skill(name: str) -> Skill:
    """The skill of that short name.

    Raises:
        SkillError: there is none; the message names the nearest one.
    """
    if name in SKILLS:
        return SKILLS[name]
    near = difflib.get_close_matches(name, SKILLS, n=1)
    hint = f", did you mean {near[0]!r}?" if near else ""
    raise SkillError(f"unknown skill {name!r}{hint} (known: {', '.join(SKILLS)})")


__all__ = ["SKILLS", "ProposalError", "ProposingSkill", "Skill", "SkillError", "Task", "get_skill"]
