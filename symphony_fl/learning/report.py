"""What a local learner says about a round, the same for every learner."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch

from symphony_fl.learning.skills.base import Task
from symphony_fl.learning.tasks.task_sharing import Proposal

PHASES = ("generate", "score", "backward", "optimizer")


@dataclass(frozen=True)
class Attempt:
    """One completion of a task, its reward in [0, 1], and the digest (hex) of the adapter that wrote it."""

    task: Task
    text: str
    reward: float
    policy: str


@dataclass(frozen=True)
class LearnReport:
    """What ``improve`` did; a mean over all its steps unless said otherwise.

    Attributes
    ----------
    reward : over all samples; ``rewards``: the same per skill.
    loss : before the step's first update.
    kl : k3 against the base model per token; 0 when no KL term was asked for.
    grad_norm : before clipping.
    mismatch : |log-probability when trained - when sampled| per token, before the step's first update. Below 1e-4
        in float32; a large one says that the adapter that was trained is not the one that generated.
    clip_fraction : share of tokens whose ratio lies beyond what the settings let it weigh, before the first update.
    tokens : sampled in all.
    steps : asked for.
    zero_advantage : share of groups whose samples all earned the same.
    seconds : in all, by phase: generate, score, backward (with its forward), optimizer.
    cpu_seconds : the same in CPU time of the process; empty where a learner does not measure it.
    attempts : every completion that was scored, in order.
    figures : what else a learner has to tell, by metric name.
    shared : proposals of its own model to be shown to the neighbours.
    """

    reward: float
    loss: float
    kl: float
    grad_norm: float
    mismatch: float
    tokens: int
    steps: int
    zero_advantage: float
    rewards: dict[str, float]
    seconds: dict[str, float]
    attempts: tuple[Attempt, ...] = ()
    figures: dict[str, float] = field(default_factory=dict)
    shared: tuple[Proposal, ...] = ()
    clip_fraction: float = 0.0
    cpu_seconds: dict[str, float] = field(default_factory=dict)

    def earned(self) -> dict[str, tuple[float, int]]:
        """Skill -> mean reward and number of attempts."""
        counts = Counter(attempt.task.skill for attempt in self.attempts)
        return {skill: (self.rewards[skill], count) for skill, count in sorted(counts.items())}


class Meter:
    """Collects the figures of a `LearnReport` while a learner works."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(PHASES, 0.0)
        self.cpu_seconds = dict.fromkeys(PHASES, 0.0)
        self.sums: dict[str, float] = defaultdict(float)
        self.counts: dict[str, int] = defaultdict(int)
        self.rewards: dict[str, list[float]] = defaultdict(list)
        self.tokens = 0
        self.attempts: list[Attempt] = []

    @contextmanager
    def clock(self, phase: str) -> Iterator[None]:
        start, cpu = time.perf_counter(), time.process_time()
        yield
        self.seconds[phase] += time.perf_counter() - start
        self.cpu_seconds[phase] += time.process_time() - cpu

    def add(self, name: str, total: float, count: int = 1) -> None:
        """``name`` is one of loss, kl, grad_norm, mismatch, clip_fraction, zero_advantage; its mean is reported."""
        self.sums[name] += total
        self.counts[name] += count

    def sampled(
        self, skills: Sequence[str], rewards_NG: torch.Tensor, advantages_NG: torch.Tensor, tokens: int
    ) -> None:
        """One step's samples: the skill of each of N tasks, rewards and advantages [N, G]."""
        for skill, group in zip(skills, rewards_NG.tolist(), strict=True):
            self.rewards[skill] += group
        self.add("zero_advantage", float((advantages_NG == 0).all(dim=1).sum()), len(advantages_NG))
        self.tokens += tokens

    def attempted(
        self, tasks: Sequence[Task], texts: Sequence[str], rewards_NG: torch.Tensor, policy: bytes
    ) -> None:
        """The completions of N tasks, grouped by task, that the adapter of this digest wrote."""
        repeated = [task for task in tasks for _ in range(rewards_NG.shape[1])]
        for task, text, reward in zip(repeated, texts, rewards_NG.flatten().tolist(), strict=True):
            self.attempts.append(Attempt(task, text, reward, policy.hex()))

    def report(
        self,
        steps: int,
        figures: Mapping[str, float] | None = None,
        shared: tuple[Proposal, ...] = (),
    ) -> LearnReport:
        every = [reward for values in self.rewards.values() for reward in values]
        return LearnReport(
            reward=_mean(every),
            loss=self._mean("loss"),
            kl=self._mean("kl"),
            grad_norm=self._mean("grad_norm"),
            mismatch=self._mean("mismatch"),
            tokens=self.tokens,
            steps=steps,
            zero_advantage=self._mean("zero_advantage"),
            rewards={skill: _mean(values) for skill, values in sorted(self.rewards.items())},
            seconds=dict(self.seconds),
            attempts=tuple(self.attempts),
            figures=dict(figures or {}),
            shared=shared,
            clip_fraction=self._mean("clip_fraction"),
            cpu_seconds=dict(self.cpu_seconds),
        )

    def _mean(self, name: str) -> float:
        return self.sums[name] / self.counts[name] if self.counts[name] else 0.0


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
