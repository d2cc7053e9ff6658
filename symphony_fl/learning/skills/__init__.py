"""The skills: what an agent can be asked, and how an answer is checked. No torch below this line.

base.py           Task, the Skill protocol
symbolic.py       ten skills on short strings and small numbers, for the embedded model
arithmetic.py     few-shot arithmetic for pretrained models; few_shot.py: the form; arithmetic_shots.py: for proposers
programs/         outputs, inputs and programs of small functions
sql/              questions about a database
datasets/         GSM8K, HotpotQA, Natural Questions and other rows
questions.py      questions in plain lines; proposals.py: tasks that a model writes
expressions.py    arithmetic evaluated exactly; metrics.py: how answers are compared
text.py           where the answer is in what a model wrote

A new family is a file with a tuple of skills, listed in ``_FAMILIES``.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from symphony_fl import registry
from symphony_fl.learning.skills.arithmetic import ARITHMETIC
from symphony_fl.learning.skills.base import ProposalError, ProposingSkill, Skill, SkillError, Task
from symphony_fl.learning.skills.datasets.gsm import GSM
from symphony_fl.learning.skills.datasets.multihop import MULTIHOP
from symphony_fl.learning.skills.datasets.openqa import OPENQA
from symphony_fl.learning.skills.datasets.prompt_answer import PromptAnswer
from symphony_fl.learning.skills.datasets.sources import Source, parse_source, with_source
from symphony_fl.learning.skills.programs.code import CODE
from symphony_fl.learning.skills.sql.spider import SPIDER_SAMPLE
from symphony_fl.learning.skills.sql.text2sql import TEXT2SQL
from symphony_fl.learning.skills.symbolic import FAR, LONG, SYMBOLIC

_SQL: tuple[Skill, ...] = (TEXT2SQL, SPIDER_SAMPLE)
_FAMILIES: tuple[tuple[Skill, ...], ...] = (
    SYMBOLIC,
    LONG,
    FAR,
    ARITHMETIC,
    GSM,
    MULTIHOP,
    OPENQA,
    CODE,
    _SQL,
)

SKILLS: dict[str, Skill] = {skill.name: skill for family in _FAMILIES for skill in family}

_INSTALLED: dict[str, Source] = {}  # skills of this process whose rows are not the shipped ones


def get_skill(name: str) -> Skill:
    """The skill of that short name.

    Raises
    ------
    SkillError
        There is none; the message names the nearest one.
    """
    if name in SKILLS:
        return SKILLS[name]
    near = difflib.get_close_matches(name, SKILLS, n=1)
    hint = f", did you mean {near[0]!r}?" if near else ""
    raise SkillError(f"unknown skill {name!r}{hint} (known: {', '.join(SKILLS)})")


def install_registered() -> None:
    """From here on, ``get_skill`` gives the skills of plug-ins too.

    Raises
    ------
    SkillError
        A plug-in's skill has the name of another one.
    """
    for name, (skill, provider) in registry.items("skills").items():
        if SKILLS.setdefault(name, skill) is not skill:
            raise SkillError(f"skill {name!r} of {provider}: the name is taken")


def install_prompts(skills: Sequence[PromptAnswer]) -> None:
    """From here on, in this process, ``get_skill`` gives these skills of rows; the same call again does nothing.

    Raises
    ------
    SkillError
        A name is taken, by another skill or by other rows.
    """
    for skill in skills:
        if SKILLS.setdefault(skill.name, skill) != skill:
            raise SkillError(
                f"skill {skill.name!r}: the name is taken, or this process has read other rows for it"
            )


def install_rows(entries: Sequence[str], skills: Sequence[str]) -> None:
    """From here on, in this process, ``get_skill`` gives these skills with the rows that the entries name.

    Called for every recipe before its tasks are drawn, also for one without entries; the same call again does
    nothing. Skills are looked up by name wherever tasks are drawn or judged, so a name means one set of rows for as
    long as the process lives.

    Parameters
    ----------
    entries : ``skill=folder-or-hub-name:split`` each (``sources.py``).
    skills : the recipe's; those without an entry have the shipped rows, or are generated.

    Raises
    ------
    SkillError
        An entry of another form, for none of the skills or for one named before; rows that cannot be read; or
        this process has other rows for a skill already.
    """
    wanted: dict[str, Source] = {}
    for entry in entries:
        source = parse_source(entry)
        if source.skill not in skills:
            raise SkillError(f"{entry!r}: {source.skill!r} is none of the skills {', '.join(skills)}")
        if source.skill in wanted:
            raise SkillError(f"{entry!r}: {source.skill!r} has {str(wanted[source.skill])!r} already")
        wanted[source.skill] = source
    for name in skills:
        if name in _INSTALLED and _INSTALLED[name] != wanted.get(name):
            asked = repr(str(wanted[name])) if name in wanted else "the shipped rows"
            raise SkillError(
                f"{asked}: this process has read {str(_INSTALLED[name])!r} already; give each its own process"
            )
    for name in wanted.keys() - _INSTALLED.keys():
        try:
            SKILLS[name] = with_source(get_skill(name), wanted[name])
        except SkillError as error:
            raise SkillError(f"{str(wanted[name])!r}: {error}") from error
        _INSTALLED[name] = wanted[name]


__all__ = [
    "SKILLS",
    "ProposalError",
    "ProposingSkill",
    "Skill",
    "SkillError",
    "Task",
    "get_skill",
    "install_prompts",
    "install_registered",
    "install_rows",
]
