"""How a model that has never written a task learns the form of a proposal, before self-play begins.

Supervised steps on generated questions, never on their answers, every cell (skill, difficulty) as often as any other.
Half of each batch are questions with the answers the model gave before the first step, right or wrong: without this
rehearsal (Li and Hoiem, "Learning without Forgetting", ECCV 2016) the solver is lost (accuracy fell from 0.35 to 0.04).

It depends on the run's skills and seed alone, so all agents of a run take the same steps and averaging them changes
nothing. Agents taught their own skills only forgot the form when they first averaged (0.91 of their proposals valid,
then 0.29).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from symphony_fl.learning.rl.policy_gradient import PolicyGradient
from symphony_fl.learning.selfplay.proposers import free_prompt
from symphony_fl.learning.skills.base import TeachableSkill
from symphony_fl.learning.tasks.task_sampler import draw_training_task

_TAG = 0x424F4F54  # separates this stream from others drawn from the same seed
_ROWS = 256  # sampled at a time


@dataclass(frozen=True)
class Bootstrap:
    """``steps`` steps of ``batch`` texts, at least 2, for these skills; ``seed`` is the run's.

    ``free``: the model is to write the request as well, for `proposers.FreeProposer`.
    """

    skills: Sequence[TeachableSkill]
    steps: int
    batch: int
    seed: int
    free: bool = False

    def teach(self, gradient: PolicyGradient) -> None:
        """Train the adapter in place, with the learner's optimizer."""
        cells = [(skill, level) for skill in self.skills for level in skill.difficulties]
        half = self.batch // 2
        rng = np.random.default_rng([self.seed, _TAG])
        places = rng.integers(len(cells), size=self.steps * half)
        drawn = [draw_training_task(cells[place][0], rng, difficulty=cells[place][1]) for place in places]
        asked = [cells[place][0].propose_prompt([], cells[place][1]) for place in places]
        told = [cells[place][0].proposal_of(task) for place, task in zip(places, drawn, strict=True)]
        taught = list(zip(asked, told, strict=True))
        if self.free:
            prompt = free_prompt(self.skills, gradient.policy.base.tokenizer)
            taught = [(prompt, request.removeprefix(prompt) + text) for request, text in taught]
        known = self._own_answers(gradient, [task.prompt for task in drawn])
        for start in range(0, len(taught), half):
            gradient.imitate(taught[start : start + half] + known[start : start + half])

    def _own_answers(self, gradient: PolicyGradient, prompts: Sequence[str]) -> list[tuple[str, str]]:
        """Every prompt with one sampled completion."""
        answered: list[tuple[str, str]] = []
        for start in range(0, len(prompts), _ROWS):
            part = prompts[start : start + _ROWS]
            seed = int(np.random.SeedSequence([self.seed, _TAG, start]).generate_state(1)[0])
            answered += zip(part, gradient.sample(part, 1, seed).texts, strict=True)
        return answered
