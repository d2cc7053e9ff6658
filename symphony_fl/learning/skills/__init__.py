"""The skills: what an agent can be asked, and how an answer is checked. No torch below this line.

    base.py         Task, the Skill protocol
    symbolic.py     ten skills on short strings and small numbers, for the embedded model
    arithmetic.py   few-shot arithmetic and word problems, for pretrained models

A new family is a file with a tuple of skills, listed in ``_FAMILIES``.
"""

from __future__ import annotations

import difflib

from symphony_fl.learning.skills.arithmetic import ARITHMETIC
from symphony_fl.learning.skills.base import Skill, SkillError, Task
from symphony_fl.learning.skills.symbolic import SYMBOLIC

_FAMILIES: tuple[tuple[Skill, ...], ...] = (SYMBOLIC, ARITHMETIC)

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


__all__ = ["SKILLS", "Skill", "SkillError", "Task", "get_skill"]
