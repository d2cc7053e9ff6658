"""What a GRPO step costs: our loop against TRL's GRPOTrainer and against itself by transformers' modules.

The learners train the same adapter on the same base model, tasks and batch sizes, in one process, taking turns
round by round from the same adapter, so that whatever else the machine does meets all alike. The first round
of each is not counted. The result:

    model, entries, prompts, samples, max_new_tokens, steps (of a round), rounds, skills
    grpo, modules, trl         one object each; `modules` is `grpo` with the forward pass of transformers' modules:
        seconds_per_step       median over the rounds
        spread                 [lowest, highest] over the rounds
        phases                 median seconds per step: generate, score, backward (with its forward), optimizer
                               (for trl with all that its trainer does besides)
        cpu_ms_per_step        median over the rounds, of this process
        cpu_ms                 the same of generate and backward; null for trl
        tokens_per_step        sampled, median
        build_seconds          to construct the learner
    ratio                      grpo's median / trl's
    ratio_to_modules           median over the rounds of grpo's CPU time / that of modules in the same round
    forward                    by what `grpo` computes: "llama_forward", or "transformers: " and why
    context                    processor, threads, load, versions
"""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Protocol

import numpy as np
import torch

from symphony_fl.learning.model.adapters import Policy
from symphony_fl.learning.model.base_model import load_base
from symphony_fl.learning.report import PHASES, LearnReport
from symphony_fl.learning.rl.grpo import GRPO
from symphony_fl.learning.rl.grpo_settings import GRPOSettings
from symphony_fl.learning.rl.trl_grpo import TRLGRPO
from symphony_fl.learning.skills import get_skill
from symphony_fl.learning.skills.arithmetic import ARITHMETIC
from symphony_fl.learning.skills.symbolic import SYMBOLIC
from symphony_fl.learning.tasks.task_sampler import TaskSampler

_LIBRARIES = ("torch", "transformers", "peft", "trl")
_CPU_PHASES = ("generate", "backward")


class _Learner(Protocol):
    def improve(self, round: int, steps: int) -> LearnReport: ...


@dataclass(frozen=True)
class _Candidate:
    learner: _Learner
    policy: Policy
    build_seconds: float


@dataclass(frozen=True)
class _Turn:
    """One round of a learner, `steps` steps."""

    seconds: float
    cpu: float
    report: LearnReport


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
        settings = GRPOSettings(prompts, samples, learning_rate=3e-3, max_new_tokens=longest)
        candidates = _build(model, settings, names, seed)
        policy = candidates["grpo"].policy
        measured = _take_turns(candidates, policy.initial(seed), rounds, steps)
    finally:
        torch.set_num_threads(threads)
    figures = {
        name: _figures(measured[name], steps) | {"build_seconds": candidate.build_seconds}
        for name, candidate in candidates.items()
    }
    figures["trl"]["cpu_ms"] = None  # its phases are measured in wall time alone
    ratios = [
        ours.cpu / theirs.cpu for ours, theirs in zip(measured["grpo"], measured["modules"], strict=True)
    ]
    reason = policy.modules_because
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
        "ratio_to_modules": statistics.median(ratios),
        "forward": "llama_forward" if reason is None else f"transformers: {reason}",
        "context": _context(),
    }


def _build(model: str, settings: GRPOSettings, skills: Sequence[str], seed: int) -> dict[str, _Candidate]:
    base = load_base(model)
    plain, modules = (Policy(base, rank=8, alpha=16.0, plain=plain) for plain in (True, False))
    built = {}
    for name, learner, policy in (("grpo", GRPO, plain), ("modules", GRPO, modules), ("trl", TRLGRPO, plain)):
        policy.set(policy.initial(seed))
        began = time.perf_counter()
        made: _Learner = learner(policy, TaskSampler(skills, seed), settings, seed)
        built[name] = _Candidate(made, policy, time.perf_counter() - began)
    return built


def _take_turns(
    candidates: Mapping[str, _Candidate], start: np.ndarray, rounds: int, steps: int
) -> dict[str, list[_Turn]]:
    """The counted rounds of each; every one begins with the adapter `start`."""
    measured: dict[str, list[_Turn]] = {name: [] for name in candidates}
    for round in range(rounds + 1):
        for name, candidate in candidates.items():
            candidate.policy.set(start)
            began, cpu = time.perf_counter(), time.process_time()
            report = candidate.learner.improve(round, steps)
            if round > 0:  # the first one warms up
                turn = _Turn(time.perf_counter() - began, time.process_time() - cpu, report)
                measured[name].append(turn)
    return measured


def _figures(measured: Sequence[_Turn], steps: int) -> dict[str, Any]:
    seconds = [turn.seconds / steps for turn in measured]
    return {
        "seconds_per_step": statistics.median(seconds),
        "spread": [min(seconds), max(seconds)],
        "phases": {
            phase: statistics.median(turn.report.seconds[phase] / steps for turn in measured)
            for phase in PHASES
        },
        "cpu_ms_per_step": statistics.median(1e3 * turn.cpu / steps for turn in measured),
        "cpu_ms": {
            phase: statistics.median(1e3 * turn.report.cpu_seconds[phase] / steps for turn in measured)
            for phase in _CPU_PHASES
        },
        "tokens_per_step": statistics.median(turn.report.tokens / steps for turn in measured),
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
