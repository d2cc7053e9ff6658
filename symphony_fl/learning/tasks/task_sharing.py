"""Tasks shared between neighbours (section 5.1): what is worth showing, and what is taken from strangers. No torch.

What travels is the text of a proposal, never its answer. The receiver reads it with its own skill, which computes the
answer, so a wrong one cannot come in; skills whose proposals bring their answer along take nothing from strangers.
The sender's success rate is its word: it never decides whether a task is taken.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

from symphony_fl.learning.executors.allowance import Allowance
from symphony_fl.learning.skills import SKILLS, ProposalError, ProposingSkill, Task
from symphony_fl.learning.skills.base import ComputingSkill, ExecutingSkill
from symphony_fl.learning.tasks.task_sampler import is_reserved


@dataclass(frozen=True)
class Proposal:
    """A task as a model wrote it: ``text`` is what ``parse_proposal`` reads; ``success`` is the mean reward in [0, 1]
    of ``attempts``, at least 1, by the agent whose model wrote it."""

    skill: str
    difficulty: int
    text: str
    success: float
    attempts: int


class TaskRefused(ValueError):
    """A proposal of a neighbour that is not taken. ``reason`` is short enough to be counted by:

    unknown_skill      not a skill of the run
    not_proposing      nobody can propose its tasks
    not_computed       its answers cannot be computed from its questions
    wrong_difficulty   the skill has no such level
    reserved           its prompt is kept for evaluation
    duplicate          its prompt is there already

    or a reason of `ProposalError`, where the skill's own executor refuses it.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"task refused, {reason}: {detail}")
        self.reason = reason


def can_be_shared(skill: str) -> bool:
    """Whether receivers take tasks of this skill.

    Raises
    ------
    KeyError
        There is no such skill.
    """
    found = SKILLS[skill]
    return isinstance(found, ComputingSkill) and found.computes_answer


def accept(
    proposal: Proposal, skills: Collection[str], known: Collection[str], allowance: Allowance | None = None
) -> Task:
    """The task in a stranger's proposal, its answer computed here; ``origin`` is "received".

    Parameters
    ----------
    skills : short names of the run's skills.
    known : prompts that are not taken twice.
    allowance : seconds that the proposal's program may still run, charged with what it took; None: the skill's own
        limits hold alone.

    Raises
    ------
    TaskRefused
        See there.
    """
    name = proposal.skill
    if name not in skills or name not in SKILLS:
        raise TaskRefused("unknown_skill", f"skill = {name!r}: must be one of {', '.join(skills)}")
    skill = SKILLS[name]
    if not isinstance(skill, ProposingSkill):
        raise TaskRefused("not_proposing", f"skill = {name!r}: nobody can propose its tasks")
    if not can_be_shared(name):
        raise TaskRefused("not_computed", f"skill = {name!r}: a proposal brings its answer along")
    if proposal.difficulty not in skill.difficulties:
        levels = f"{skill.difficulties[0]} to {skill.difficulties[-1]}"
        raise TaskRefused("wrong_difficulty", f"difficulty = {proposal.difficulty}: must be {levels}")
    try:
        task = _parse(skill, proposal, allowance)
    except ProposalError as error:
        raise TaskRefused(error.reason, str(error)) from None
    if is_reserved(task.prompt):
        raise TaskRefused("reserved", f"{proposal.text[:60]!r} is kept for evaluation")
    if task.prompt in known:
        raise TaskRefused("duplicate", f"{proposal.text[:60]!r} is there already")
    return replace(task, origin="received")


def _parse(skill: ProposingSkill, proposal: Proposal, allowance: Allowance | None) -> Task:
    if allowance is not None and isinstance(skill, ExecutingSkill):
        return skill.parse_within(proposal.text, proposal.difficulty, allowance)
    return skill.parse_proposal(proposal.text, proposal.difficulty)


def most_learnable(proposals: Iterable[Proposal], most: int) -> tuple[Proposal, ...]:
    """Up to ``most`` distinct proposals solved sometimes but not always, those solved nearest to half the time first.

    Attempts at the same text are pooled. Proposals that no receiver would take are left out.
    """
    pooled: dict[tuple[str, int, str], Proposal] = {}
    for proposal in proposals:
        key = (proposal.skill, proposal.difficulty, proposal.text)
        pooled[key] = _pooled(pooled[key], proposal) if key in pooled else proposal
    worth = [p for p in pooled.values() if 0 < p.success < 1 and can_be_shared(p.skill)]
    return tuple(
        sorted(worth, key=lambda p: abs(p.success - 0.5))[:most]
    )  # stable: among equals, the first written


def _pooled(one: Proposal, other: Proposal) -> Proposal:
    attempts = one.attempts + other.attempts
    total = one.success * one.attempts + other.success * other.attempts
    return replace(one, success=total / attempts, attempts=attempts)


def share_of_batch(received: Sequence[Task], own: Sequence[Task]) -> list[Task]:
    """The received tasks that may join a solver's batch: not among its own, and at most as many."""
    written = {task.prompt for task in own}
    return [task for task in received if task.prompt not in written][: len(own)]
