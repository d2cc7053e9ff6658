"""Who decides what a proposal is to be about: the curriculum, or the proposer itself.

`CellProposer` is ours: skill and difficulty stand in the prompt, so a proposal competes with proposals for the same
cell only, and what is written often earns less.

`FreeProposer` is the naive reading of the paper's self-play: the model also writes which skill and difficulty it
proposes for, and learnability is all it earns. It soon writes a handful of tasks of one skill. It is here so that
anyone can see that (`selfplay: free`), and see that `ProposalStats` notices.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os.path import commonprefix
from typing import Protocol

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from symphony_fl.learning.memory.episodes import Cell
from symphony_fl.learning.memory.memory import Memory
from symphony_fl.learning.rl.grpo_loss import group_advantages
from symphony_fl.learning.skills import ProposalError, SkillError, Task
from symphony_fl.learning.skills.base import ProposingSkill
from symphony_fl.learning.tasks.curriculum import Curriculum

INVALID = -0.5
"""What a proposal earns that is no task."""


@dataclass(frozen=True)
class Request:
    """A prompt that asks for one task, and the cell it asks for; None where the proposer is to choose."""

    prompt: str
    cell: Cell | None


class Proposer(Protocol):
    """How proposals are asked for, read and paid."""

    def requests(self, rng: np.random.Generator, count: int, found: Sequence[Task] = ()) -> list[Request]:
        """At least ``count`` requests, one per proposal, in groups of equal ones side by side; ``found`` are the step's
        tasks so far."""
        ...

    def read(self, request: Request, text: str) -> Task | None:
        """The task that a model wrote, or None where it is none."""
        ...

    def advantages(self, written: Sequence[Task | None], success: Mapping[str, float]) -> torch.Tensor:
        """Of every proposal, float32 [n], given the solver's success rate by prompt."""
        ...


class CellProposer:
    """Proposals for cells drawn by the curriculum, in groups of ``group`` per cell; advantages within a cell."""

    def __init__(
        self,
        skills: Mapping[str, ProposingSkill],
        curriculum: Curriculum,
        memory: Memory,
        group: int,
        examples: int,
    ) -> None:
        self.skills = skills
        self.curriculum = curriculum
        self.memory = memory
        self.group = group
        self.examples = examples
        self.times: Counter[str] = Counter()  # how often a task was written in this round, by prompt

    def requests(self, rng: np.random.Generator, count: int, found: Sequence[Task] = ()) -> list[Request]:
        had = {name: n / self.group for name, n in Counter(task.skill for task in found).items()}
        places = self.curriculum.draw(rng, -(-count // self.group), had)
        asked = [
            Request(self._prompt(self.curriculum.cells[place], rng), self.curriculum.cells[place])
            for place in places
        ]
        return [request for request in asked for _ in range(self.group)]

    def read(self, request: Request, text: str) -> Task | None:
        assert request.cell is not None
        name, level = request.cell
        return _parsed(self.skills[name], text, level)

    def advantages(self, written: Sequence[Task | None], success: Mapping[str, float]) -> torch.Tensor:
        self.times.update(task.prompt for task in written if task is not None)
        earned = proposal_rewards(written, success, self.times)
        return group_advantages(earned.view(-1, self.group)).flatten()

    def _prompt(self, cell: Cell, rng: np.random.Generator) -> str:
        name, level = cell
        shown: list[Task] = []
        if self.examples:
            known = [episode.task for episode in self.memory.replay(rng, 8 * self.examples)]
            shown = [task for task in known if task.skill == name][: self.examples]
        return self.skills[name].propose_prompt(shown, level)


class FreeProposer:
    """Proposals for any cell: what is asked is what all requests begin with, and the model goes on from there.

    Advantages are relative to all proposals of the step; ``group`` only rounds their number up.

    Raises
    ------
    SkillError
        The skills' requests have no common beginning, so that nothing can be asked.
    """

    def __init__(
        self, skills: Mapping[str, ProposingSkill], group: int, tokenizer: PreTrainedTokenizerBase
    ) -> None:
        self.skills = skills
        self.group = group
        self.cells = {
            skill.propose_prompt([], level): (name, level)
            for name, skill in skills.items()
            for level in skill.difficulties
        }
        self.prompt = free_prompt(list(skills.values()), tokenizer)

    def requests(self, rng: np.random.Generator, count: int, found: Sequence[Task] = ()) -> list[Request]:
        return [Request(self.prompt, None)] * (-(-count // self.group) * self.group)

    def read(self, request: Request, text: str) -> Task | None:
        whole = request.prompt + text
        for asked, (name, level) in self.cells.items():
            if whole.startswith(asked):
                return _parsed(self.skills[name], whole[len(asked) :], level)
        return None

    def advantages(self, written: Sequence[Task | None], success: Mapping[str, float]) -> torch.Tensor:
        earned = proposal_rewards(written, success)
        return group_advantages(earned.view(1, -1)).flatten()


def free_prompt(skills: Sequence[ProposingSkill], tokenizer: PreTrainedTokenizerBase) -> str:
    """What the requests for all tasks of these skills begin with, in whole tokens.

    Raises
    ------
    SkillError
        Nothing.
    """
    requests = [skill.propose_prompt([], level) for skill in skills for level in skill.difficulties]
    shared = commonprefix([tokenizer(request)["input_ids"] for request in requests])
    if not shared:
        raise SkillError("the requests for these skills have no common beginning: a proposer cannot choose")
    return str(tokenizer.decode(shared))


def proposal_rewards(
    written: Sequence[Task | None], success: Mapping[str, float], times: Mapping[str, int] | None = None
) -> torch.Tensor:
    """What proposals earn, float32 [n]: learnability 4 p (1 - p), over the root of how many ``times`` it was written,
    by prompt, where that is to count; `INVALID` for no task.

    Tasks that were not tried (reserved prompts) earn the mean of those that were.
    """
    worth = {
        prompt: 4 * p * (1 - p) / (math.sqrt(times[prompt]) if times else 1.0)
        for prompt, p in success.items()
    }
    untried = sum(worth.values()) / len(worth) if worth else 0.0
    return torch.tensor([INVALID if task is None else worth.get(task.prompt, untried) for task in written])


def _parsed(skill: ProposingSkill, text: str, level: int) -> Task | None:
    try:
        return skill.parse_proposal(text, level)
    except ProposalError:
        return None
