"""What the trainer and the rollout workers of `centralized` have in common: the terms of the run, parts, the copy."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np

from clients.agents.base_agent import BaseAgent
from clients.home.home import Home
from symphony_fl.build.centralized import dealt, kept_outboxes
from symphony_fl.build.components import (
    agent_skills,
    install_sources,
    recipe_codec,
    recipe_density,
    recipe_selection,
)
from symphony_fl.build.learners import grpo_settings
from symphony_fl.config.options import Recipe
from symphony_fl.exchange.broadcast import Copy
from symphony_fl.exchange.messages.rollouts import Form
from symphony_fl.exchange.messages.session import Session
from symphony_fl.learning.rl.rollout_learner import RolloutLearner
from symphony_fl.learning.skills import Task
from symphony_fl.learning.tasks.task_sampler import TaskSampler
from symphony_fl.refusals import Refusal


class RolloutAgent(BaseAgent):
    """A member of a centralized run; its rounds are steps.

    Parameters
    ----------
    home, number, recipe : as of `BaseAgent`
    run : the run's name, part of everything that is signed
    """

    unit = "step"

    def __init__(self, home: Home, number: int, recipe: Recipe, run: str) -> None:
        super().__init__(home, number, recipe, kept_outboxes(recipe))
        self.session = self._terms(run)
        self.form = self._form()
        self.copy = Copy(self.initial, recipe.centralized.momentum)
        self.learner = RolloutLearner(self.policy, grpo_settings(recipe))
        self.begin()

    def part(self, step: int, number: int) -> list[Task]:
        """The tasks of a part of a step."""
        install_sources(self.recipe)
        sampler = TaskSampler(agent_skills(self.recipe, self.number), self.recipe.seed)
        tasks = sampler.sample(self.recipe.learner.prompts, step, 0)
        return dealt(tasks, number, self.recipe.centralized.parts)

    def refused(self, error: Refusal, count: int = 1) -> None:
        """Counted by name; the run goes on."""
        name = f"refused/{error.name}"
        self.metrics[name] = self.metrics.get(name, 0.0) + count

    def keep(self, prefix: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Put these in the place of all below that prefix."""
        others = {name: array for name, array in self.state.arrays.items() if not name.startswith(prefix)}
        self.state.arrays = others | {f"{prefix}{name}": array for name, array in arrays.items()}

    def _terms(self, run: str) -> Session:
        recipe, layout = self.recipe, self.policy.layout
        return Session(
            run=hashlib.sha256(f"{run}\0{recipe.digest}".encode()).digest()[:16],
            base=self.policy.base.digest,
            layout=layout.digest,
            kind="values" if recipe.centralized.send == "weights" else "difference",
            selection=recipe_selection(recipe, layout, recipe_density(recipe, layout.size)),
            codec=recipe_codec(recipe),
        )

    def _form(self) -> Form:
        options, parts = self.recipe.learner, self.recipe.centralized.parts
        return Form(
            run=self.session.run,
            vocabulary=int(self.policy.base.model.config.vocab_size),
            end=int(self.policy.base.tokenizer.eos_token_id),
            longest=options.max_new_tokens,
            rows=-(-options.prompts // parts) * options.samples,
        )
