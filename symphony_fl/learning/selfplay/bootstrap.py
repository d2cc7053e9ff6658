"""How a model that has never written a task learns the form of a proposal, before self-play begins.

Supervised steps on generated questions, never on their answers. Half are drawn evenly over skills and then levels,
half by how many of a cell's own proposals are still wrong, which is looked at every `_CHECK` steps. The rate falls as a
cosine. Drawn evenly over cells at a constant rate, 400 steps left the proposals for add and subtract alike, a quarter
of them valid. Of a round's tasks these were then the fewest, and both skills ended the lowest.

Half of each batch are questions with the answers the model gave before the first step, right or wrong: without this
rehearsal (Li and Hoiem, "Learning without Forgetting", ECCV 2016) the solver is lost (accuracy fell from 0.35 to 0.04).

It depends on the run's skills and seed alone, so all agents of a run take the same steps and averaging them changes
nothing. Agents taught their own skills only forgot the form when they first averaged (0.91 of their proposals valid,
then 0.29).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from symphony_fl.learning.rl.policy_gradient import PolicyGradient
from symphony_fl.learning.selfplay.proposers import free_prompt
from symphony_fl.learning.skills.base import ProposalError, Task, TeachableSkill
from symphony_fl.learning.tasks.task_sampler import draw_training_task

_TAG = 0x424F4F54  # separates this stream from others drawn from the same seed
_ROWS = 256  # sampled at a time
_CHECK = 50  # steps after which it is looked at again which cells' proposals are wrong
_TRIED = 8  # proposals of each cell that are looked at

_Cell = tuple[TeachableSkill, int]


@dataclass(frozen=True)
class Bootstrap:
    """``steps`` steps of ``batch`` texts, at least 2, for these skills; ``seed`` is the run's, ``rate`` AdamW's.

    ``free``: the model is to write the request as well, for `proposers.FreeProposer`.
    """

    skills: Sequence[TeachableSkill]
    steps: int
    batch: int
    seed: int
    free: bool = False
    rate: float = 0.01

    def teach(self, gradient: PolicyGradient) -> None:
        """Train the adapter in place, with the optimizer of ``gradient``, whose rate is as before afterwards."""
        before = [group["lr"] for group in gradient.optimizer.param_groups]
        half = self.batch // 2
        rng = np.random.default_rng([self.seed, _TAG])
        cells = [(skill, level) for skill in self.skills for level in skill.difficulties]
        evenly_C = np.array([1 / (len(self.skills) * len(skill.difficulties)) for skill, _ in cells])
        rehearsed = self._drawn(rng, cells, evenly_C, self.steps * half)
        known = self._own_answers(gradient, [task.prompt for _, task in rehearsed])
        chances_C = evenly_C
        for step in range(self.steps):
            if step and step % _CHECK == 0:
                wrong_C = 1 - self._valid(gradient, cells, step)
                chances_C = (evenly_C + wrong_C / wrong_C.sum()) / 2 if wrong_C.any() else evenly_C
            for group in gradient.optimizer.param_groups:
                group["lr"] = self.rate * 0.5 * (1 + math.cos(math.pi * step / self.steps))
            drawn = self._drawn(rng, cells, chances_C, half)
            taught = [self._told(gradient, cells[place], task) for place, task in drawn]
            gradient.imitate(taught + known[step * half : (step + 1) * half])
        for group, rate in zip(gradient.optimizer.param_groups, before, strict=True):
            group["lr"] = rate

    def _drawn(
        self, rng: np.random.Generator, cells: Sequence[_Cell], chances_C: np.ndarray, n: int
    ) -> list[tuple[int, Task]]:
        """``n`` times a cell's place and one of its tasks."""
        places = rng.choice(len(cells), size=n, p=chances_C).tolist()
        return [
            (place, draw_training_task(cells[place][0], rng, difficulty=cells[place][1])) for place in places
        ]

    def _told(self, gradient: PolicyGradient, cell: _Cell, task: Task) -> tuple[str, str]:
        """What asks for this task, and the task as it is to be written."""
        skill, level = cell
        asked, text = skill.propose_prompt([], level), skill.proposal_of(task)
        if not self.free:
            return asked, text
        prompt = free_prompt(self.skills, gradient.policy.base.tokenizer)
        return prompt, asked.removeprefix(prompt) + text

    def _valid(self, gradient: PolicyGradient, cells: Sequence[_Cell], step: int) -> np.ndarray:
        """The share of valid proposals of each cell among `_TRIED`, float64 [C]."""
        seed = int(np.random.SeedSequence([self.seed, _TAG, 1, step]).generate_state(1)[0])
        texts = gradient.sample(
            [skill.propose_prompt([], level) for skill, level in cells], _TRIED, seed
        ).texts
        asked = [cell for cell in cells for _ in range(_TRIED)]
        valid = [_is_task(skill, text, level) for (skill, level), text in zip(asked, texts, strict=True)]
        share_C: np.ndarray = np.array(valid).reshape(-1, _TRIED).mean(axis=1)
        return share_C

    def _own_answers(self, gradient: PolicyGradient, prompts: Sequence[str]) -> list[tuple[str, str]]:
        """Every prompt with one sampled completion."""
        answered: list[tuple[str, str]] = []
        for start in range(0, len(prompts), _ROWS):
            part = prompts[start : start + _ROWS]
            seed = int(np.random.SeedSequence([self.seed, _TAG, start]).generate_state(1)[0])
            answered += zip(part, gradient.sample(part, 1, seed).texts, strict=True)
        return answered


def _is_task(skill: TeachableSkill, text: str, level: int) -> bool:
    try:
        skill.parse_proposal(text, level)
    except ProposalError:
        return False
    return True
