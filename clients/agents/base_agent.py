"""What every agent has, whatever it does in a run: home, identity, known keys, policy, state and books.

`agent.py` learns by itself and gossips; `rollout_agent.py` is the trainer and the workers of `centralized`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np

from clients.agents.known_keys import KnownKeys
from clients.home.home import Home
from clients.home.state_file import State
from clients.protocol.report import AgentError, Report
from symphony_fl.build.learners import recipe_policy, recipe_start
from symphony_fl.config.options import Recipe
from symphony_fl.exchange.flat import digest
from symphony_fl.identity.did_key import did_from_public_key, public_key_of
from symphony_fl.learning.report import LearnReport


class BaseAgent:
    """An agent opened from its home. The process's one policy carries its adapter from here on.

    Parameters
    ----------
    home : locked by the caller
    number : the agent's stable number, 0..N-1
    recipe : of the run, checked
    outboxes : rounds whose outboxes and reports the home keeps
    """

    unit = "round"  # what the agent's rounds are called in errors

    def __init__(self, home: Home, number: int, recipe: Recipe, outboxes: int) -> None:
        self.home = home
        self.number = number
        self.recipe = recipe
        self.outboxes = outboxes
        self.policy = recipe_policy(recipe)
        self.initial, self.base = recipe_start(recipe, self.policy)  # the same on every agent
        loaded, self.damage = home.open()  # what had to be put right in the home, until it is reported
        self.founded = loaded is None  # the home was empty
        self.state = loaded if loaded is not None else State(adapter=self.initial)
        self.key = home.key()
        self.did = did_from_public_key(public_key_of(self.key))
        self.known_keys = KnownKeys(
            self.state, number, self.did, home.rotations(), recipe.agents, home.pins()
        )
        self.metrics: dict[str, float] = {}

    @property
    def base_digest(self) -> str:
        """Of the base model, hexadecimal."""
        return self.policy.base.digest.hex()

    def begin(self) -> None:
        """Before each message: no figures yet but that of a restored home."""
        self.metrics = {"home_restored": 1.0} if self.damage else {}

    def close(self) -> None:
        """Let go of the files of the home; by default none is held open."""

    def adopt(self, adapter: np.ndarray) -> None:
        """Take a server's averaged adapter, float32 [P], for one's own (FedAvg)."""
        raise self.not_served()

    def give(self) -> np.ndarray:
        """The adapter itself, float32 [P], for a server that averages adapters (FedAvg)."""
        raise self.not_served()

    def not_served(self) -> AgentError:
        """An adapter leaves a device, or comes to it, as a whole only where the recipe says so: a relay could ask."""
        return AgentError(
            f"a whole adapter is not exchanged with the server under {self.recipe.strategy.name!r}"
        )

    def admit(self, roster: Mapping[int, str], rotations: bytes) -> None:
        """Take the keys that are new in the roster. They are on disk before anything is answered: the first key heard
        must be persisted, or another could be accepted later."""
        known = dict(self.state.roster)
        self.count(self.known_keys.admit(self.state, roster, rotations))
        if self.state.roster != known:
            self.commit()

    def count(self, figures: Mapping[str, float]) -> None:
        """Into the metrics; what several parts refuse under one name is added up."""
        for name, value in figures.items():
            before = self.metrics.get(name, 0.0) if name.startswith("refused/") else 0.0
            self.metrics[name] = before + value

    def record(self, report: LearnReport) -> None:
        """What a learner says of its round, into the metrics."""
        self.metrics |= {f"reward/{skill}": value for skill, value in report.rewards.items()}
        self.metrics |= {
            "reward/local": report.reward,
            "loss": report.loss,
            "kl": report.kl,
            "grad_norm": report.grad_norm,
            "tokens": float(report.tokens),
            "zero_advantage": report.zero_advantage,
            "mismatch": report.mismatch,
        }
        self.metrics |= {f"seconds/{part}": value for part, value in report.seconds.items()}

    def repeated(self, round: int) -> Report | None:
        """What was answered when this round was first asked for; None if it was not.

        Raises
        ------
        AgentError
            The round lies behind the last one, and its report is gone.
        """
        if round in self.state.reports:
            kept = self.state.reports[round]
            outbox = self.state.outbox.get(round, {})
            return Report(kept["averaged"], kept["metrics"] | self.metrics, kept["adapter"], outbox)
        if round <= self.state.round:
            raise AgentError(
                f"{self.unit} {round} was asked for, {self.unit} {self.state.round} is finished, its report is gone"
            )
        return None

    def finish(
        self, round: int, averaged: dict[str, float], adapter: str, outbox: dict[str, bytes]
    ) -> Report:
        """The round is done: one commit."""
        self.state.round = round
        self.state.outbox[round] = outbox
        self.state.reports[round] = {"averaged": averaged, "metrics": self.metrics, "adapter": adapter}
        self.commit()
        self.damage = ""
        return Report(averaged, self.metrics, adapter, outbox)

    def commit(self) -> None:
        """The state, onto disk, as a whole."""
        self.home.commit(self.state, self.outboxes)

    def adapter_digest(self) -> str:
        """Of the agent's adapter as it is now, hexadecimal."""
        return digest(self.state.adapter).hex()

    def kept(self, prefix: str) -> dict[str, np.ndarray]:
        """The home's arrays below a prefix, without it."""
        arrays = self.state.arrays
        return {name.removeprefix(prefix): arrays[name] for name in arrays if name.startswith(prefix)}

    @contextmanager
    def timed(self, part: str) -> Iterator[None]:
        """Seconds of the block, into the metrics."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.metrics[f"seconds/{part}"] = time.perf_counter() - start
