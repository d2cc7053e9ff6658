"""What the trainer and the rollout workers of `centralized` have in common: home, identity, peers, policy, books."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np

from clients.agents.agent import AgentError, Report
from clients.agents.known_keys import KnownKeys
from clients.home.home import Home, State
from symphony_fl.build.centralized import dealt, kept_outboxes
from symphony_fl.build.components import (
    agent_skills,
    install_sources,
    recipe_codec,
    recipe_density,
    recipe_selection,
)
from symphony_fl.build.learners import grpo_settings, recipe_policy
from symphony_fl.config.options import Recipe
from symphony_fl.exchange.broadcast import Copy
from symphony_fl.exchange.messages.envelope import Session
from symphony_fl.exchange.messages.rollouts import Form
from symphony_fl.identity.did_key import did_from_public_key, public_key_of
from symphony_fl.learning.rl.rollout_learner import RolloutLearner
from symphony_fl.learning.skills import Task
from symphony_fl.learning.tasks.task_sampler import TaskSampler
from symphony_fl.refusals import Refusal


class BaseAgent:
    """A member of a centralized run, opened from its home. The process's one policy carries its weights.

    Parameters
    ----------
    home : locked by the caller
    number : the agent's stable number, 0..N-1
    recipe : of the run, checked
    run : the run's name, part of everything that is signed
    """

    def __init__(self, home: Home, number: int, recipe: Recipe, run: str) -> None:
        self.home = home
        self.number = number
        self.recipe = recipe
        self.policy = recipe_policy(recipe)
        self.initial = self.policy.initial(recipe.seed)
        loaded, self.damage = home.open()
        self.state = loaded if loaded is not None else State(adapter=self.initial)
        self.key = home.key()
        self.did = did_from_public_key(public_key_of(self.key))
        self.known_keys = KnownKeys(
            self.state, number, self.did, home.rotations(), recipe.agents, home.pins()
        )
        self.session = self._terms(run)
        self.form = self._form()
        self.copy = Copy(self.initial, recipe.centralized.momentum)
        self.learner = RolloutLearner(self.policy, grpo_settings(recipe))
        self.metrics: dict[str, float] = {}
        self.begin()

    @property
    def base_digest(self) -> str:
        return self.policy.base.digest.hex()

    def begin(self) -> None:
        """Before each message: no figures yet but that of a restored home."""
        self.metrics = {"home_restored": 1.0} if self.damage else {}

    def close(self) -> None:
        """Nothing is held open."""

    def adopt(self, adapter: np.ndarray) -> None:
        """No server hands adapters to a participant."""
        raise AgentError("a whole adapter is not exchanged with the server under 'centralized'")

    def give(self) -> np.ndarray:
        """Nor takes any."""
        raise AgentError("a whole adapter is not exchanged with the server under 'centralized'")

    def part(self, step: int, number: int) -> list[Task]:
        """The tasks of a part of a step."""
        install_sources(self.recipe)
        sampler = TaskSampler(agent_skills(self.recipe, self.number), self.recipe.seed)
        tasks = sampler.sample(self.recipe.learner.prompts, step, 0)
        return dealt(tasks, number, self.recipe.centralized.parts)

    def admit(self, roster: Mapping[int, str], rotations: bytes) -> None:
        """Take what is new in the roster; a first word that is not kept could be another one next time."""
        known = dict(self.state.roster)
        for name, value in self.known_keys.admit(self.state, roster, rotations).items():
            self.metrics[name] = self.metrics.get(name, 0.0) + value
        if self.state.roster != known:
            self.home.commit(self.state, kept_outboxes(self.recipe))

    def refused(self, error: Refusal, count: int = 1) -> None:
        """Counted by name; the run goes on."""
        name = f"refused/{error.name}"
        self.metrics[name] = self.metrics.get(name, 0.0) + count

    def repeated(self, step: int) -> Report | None:
        """What was answered when this step was first asked for.

        Raises
        ------
        AgentError
            The step lies behind the last one, and its report is gone.
        """
        if step in self.state.reports:
            kept = self.state.reports[step]
            outbox = self.state.outbox.get(step, {})
            return Report(kept["averaged"], kept["metrics"] | self.metrics, kept["adapter"], outbox)
        if step <= self.state.round:
            raise AgentError(
                f"step {step} was asked for, step {self.state.round} is done, its report is gone"
            )
        return None

    def finish(
        self, step: int, averaged: dict[str, float], adapter: bytes, outbox: dict[str, bytes]
    ) -> Report:
        """The step is done: one commit."""
        self.state.round = step
        self.state.outbox[step] = outbox
        self.state.reports[step] = {"averaged": averaged, "metrics": self.metrics, "adapter": adapter.hex()}
        self.home.commit(self.state, kept_outboxes(self.recipe))
        self.damage = ""
        return Report(averaged, self.metrics, adapter.hex(), outbox)

    def kept(self, prefix: str) -> dict[str, np.ndarray]:
        """The home's arrays below a prefix, without it."""
        arrays = self.state.arrays
        return {name.removeprefix(prefix): arrays[name] for name in arrays if name.startswith(prefix)}

    def keep(self, prefix: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Put these in the place of all below that prefix."""
        others = {name: array for name, array in self.state.arrays.items() if not name.startswith(prefix)}
        self.state.arrays = others | {f"{prefix}{name}": array for name, array in arrays.items()}

    @contextmanager
    def timed(self, part: str) -> Iterator[None]:
        """Seconds of the block, into the metrics."""
        start = time.perf_counter()
        yield
        self.metrics[f"seconds/{part}"] = time.perf_counter() - start

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
