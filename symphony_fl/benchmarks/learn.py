"""What a GRPO step costs: our loop against TRL's GRPOTrainer, and where the time goes.

Both learners train the same adapter on the same base model, tasks and batch sizes, in one process, taking turns
round by round from the same adapter, so that whatever else the machine does meets both alike. The first round
of each is not counted. The result:

    model, entries, prompts, samples, max_new_tokens, steps (of a round), rounds, skills
    grpo, trl                  one object each:
        seconds_per_step       median over the rounds
        spread                 [lowest, highest] over the rounds
        phases                 median seconds per step: generate, score, backward (with its forward), optimizer
                               (for trl with all that its trainer does besides)
        tokens_per_step        sampled, median
        build_seconds          to construct the learner
    ratio                      grpo's median / trl's
    context                    processor, threads, load, versions
"""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Any, Protocol

import numpy as np
import torch

from symphony_fl.learning.grpo import GRPO
from symphony_fl.learning.grpo_settings import GRPOSettings
from symphony_fl.learning.model import get_policy
from symphony_fl.learning.report import PHASES, LearnReport
from symphony_fl.learning.skills import get_skill
from symphony_fl.learning.skills.arithmetic import ARITHMETIC
from symphony_fl.learning.skills.symbolic import SYMBOLIC
from symphony_fl.learning.tasks import TaskSampler
from symphony_fl.learning.trl_grpo import TRLGRPO

_LIBRARIES = ("torch", "transformers", "peft", "trl")


class _Learner(Protocol):
    def improve(self, round: int, steps: int) -> LearnReport: ...


def run(
    model: str = "tiny",
    steps: int = 4,
    prompts: int = 16,
    samples: int = 8,
    rounds: int = 7,
    skills: Sequence[str] | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """The figures above, on one thread.

    ``skills`` defaults to all of the family made for the model: symbolic for tiny, else arithmetic.
    """
    names = tuple(skills or (skill.name for skill in (SYMBOLIC if model == "tiny" else ARITHMETIC)))
    longest = max(get_skill(name).max_new_tokens for name in names)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        policy = get_policy(model, "none", "float32", "cpu", "lora", 8, 16.0, "all-linear")
        start = policy.initial(seed)
        settings = GRPOSettings(prompts, samples, learning_rate=3e-3, max_new_tokens=longest)
        learners: dict[str, _Learner] = {}
        build_seconds = {}
        for name, learner in (("grpo", GRPO), ("trl", TRLGRPO)):
            policy.set(start)
            began = time.perf_counter()
            learners[name] = learner(policy, TaskSampler(names, seed), settings, seed)
            build_seconds[name] = time.perf_counter() - began
        measured = _take_turns(learners, lambda: policy.set(start), rounds, steps)
    finally:
        torch.set_num_threads(threads)
    figures = {
        name: _figures(measured[name], steps) | {"build_seconds": build_seconds[name]} for name in learners
    }
    return {
        "model": model,
        "entries": policy.layout.size,
        "prompts": prompts,
        "samples": samples,
        "max_new_tokens": longest,
        "steps": steps,
        "rounds": rounds,
        "skills": list(names),
        **figures,
        "ratio": figures["grpo"]["seconds_per_step"] / figures["trl"]["seconds_per_step"],
        "context": _context(),
    }


def _take_turns(
    learners: dict[str, _Learner], reset: Callable[[], None], rounds: int, steps: int
) -> dict[str, list[tuple[float, LearnReport]]]:
    """(seconds, report) of each counted round of each learner."""
    measured: dict[str, list[tuple[float, LearnReport]]] = {name: [] for name in learners}
    for round in range(rounds + 1):
        for name, learner in learners.items():
            reset()
            began = time.perf_counter()
            report = learner.improve(round, steps)
            if round > 0:  # the first one warms up
                measured[name].append((time.perf_counter() - began, report))
    return measured


def _figures(measured: Sequence[tuple[float, LearnReport]], steps: int) -> dict[str, Any]:
    seconds = [elapsed / steps for elapsed, _ in measured]
    return {
        "seconds_per_step": statistics.median(seconds),
        "spread": [min(seconds), max(seconds)],
        "phases": {
            phase: statistics.median(report.seconds[phase] / steps for _, report in measured)
            for phase in PHASES
        },
        "tokens_per_step": statistics.median(report.tokens / steps for _, report in measured),
    }


def _context() -> dict[str, Any]:
    return {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": 1,
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        **{name: version(name) for name in _LIBRARIES},
    }
