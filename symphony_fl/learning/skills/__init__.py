"""The skills: what an agent can be asked, and how an answer is checked. No torch below this line.

    base.py         Task, the Skill protocol
    symbolic.py     ten skills on short strings and small numbers, for the embedded model
    arithmetic.py   few-shot arithmetic and word problems, for pretrained models; few_shot.py: their form, asked and
                    proposed; arithmetic_shots.py: what proposers are shown
    code.py         outputs, inputs and programs of small functions; code_programs.py: where those come from
    text2sql.py     questions about a database; sql_tables.py, sql_questions.py: generated ones; spider.py: Spider's
    gsm.py          grade-school mathematics: gsm8k (rows), gsm_symbolic (generated)
    multihop.py     several facts per answer: hotpotqa (rows), multihop (generated)
    openqa.py       short answers: nq (rows), openqa (generated passages)

gsm, multihop and openqa stand on questions.py (forms, the skill's class), proposals.py (tasks that a model writes),
rows.py and loaders.py (datasets), world.py (made-up facts), expressions.py, metrics.py; code and text2sql on
text_rows.py (datasets) and text.py (questions in prompts, answers in completions).

A new family is a file with a tuple of skills, listed in ``_FAMILIES``.
"""

from __future__ import annotations

import difflib

from symphony_fl.learning.skills.arithmetic import ARITHMETIC
from symphony_fl.learning.skills.base import ProposalError, ProposingSkill, Skill, SkillError, Task
from symphony_fl.learning.skills.code import CODE
from symphony_fl.learning.skills.gsm import GSM
from symphony_fl.learning.skills.multihop import MULTIHOP
from symphony_fl.learning.skills.openqa import OPENQA
from symphony_fl.learning.skills.spider import SPIDER_SAMPLE
from symphony_fl.learning.skills.symbolic import SYMBOLIC
from symphony_fl.learning.skills.text2sql import TEXT2SQL

_SQL: tuple[Skill, ...] = (TEXT2SQL, SPIDER_SAMPLE)
_FAMILIES: tuple[tuple[Skill, ...], ...] = (SYMBOLIC, ARITHMETIC, GSM, MULTIHOP, OPENQA, CODE, _SQL)

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
