"""Self-play (eq. 5 and 6): the agent's own model writes tasks, solves them, and is trained on both by GRPO.

A step:

 1. cells (skill, difficulty) are drawn by the curriculum from memory, p(T | M, theta)                   `curriculum.py`
 2. the proposer writes `group` tasks for each cell; the skill's executor reads each, refuses what is no task of that
    cell, and computes the gold answer of the others (Zhao et al., "Absolute Zero", arXiv 2505.03335). More cells are
    drawn until the batch is full of distinct tasks, up to `most` times as many proposals as it holds
 3. the solver answers every distinct task `samples` times; the answers are verified
 4. a proposal earns its learnability 4 p (1 - p), p being the solver's success rate: 0 for what is solved always or
    never, 1 at one half; divided by the square root of how often it was written in this round; -1/2 where it is no task
 5. one optimizer step on both: the solver's group-relative advantages, and the proposer's, relative to its cell

The skill stands in the proposer's prompt, and advantages are relative to proposals for the same cell: a proposer that
chooses the skill itself soon writes a handful of tasks of one skill (`proposers.py`).

The proposer's form is learnt (`bootstrap.py`) in the common start (`common_start.py`). From there on no task is given:
what is trained on was written by the agent. Reserved prompts (`task_sampler.py`) are dropped, unscored.

Where neighbours share (section 5.1, cooperative benchmarking), their tasks join the solver's batches: at most as many
as the agent's own, in place of proposals, spread over the round's steps. They earn the proposer nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from symphony_fl.learning.memory.memory import Memory
from symphony_fl.learning.model.adapters import Policy
from symphony_fl.learning.report import LearnReport, Meter
from symphony_fl.learning.rl.grpo import Baseline, advantages, task_rewards
from symphony_fl.learning.rl.grpo_settings import GRPOSettings
from symphony_fl.learning.rl.policy_gradient import PolicyGradient, Scored
from symphony_fl.learning.rl.sampling import Rollout
from symphony_fl.learning.selfplay.proposal_stats import ProposalStats
from symphony_fl.learning.selfplay.proposers import CellProposer, FreeProposer, Proposer
from symphony_fl.learning.skills import Task
from symphony_fl.learning.skills.base import ProposingSkill
from symphony_fl.learning.tasks.curriculum import Curriculum
from symphony_fl.learning.tasks.task_sampler import is_reserved
from symphony_fl.learning.tasks.task_sharing import Proposal, most_learnable, share_of_batch

_STREAM = 0x53504C59  # separates this learner's random stream from others drawn from the same seed


@dataclass(frozen=True)
class SelfPlaySettings:
    """How tasks are proposed.

    Attributes
    ----------
    group : proposals per cell, at least 2.
    weight : of the proposer's loss beside the solver's, at least 0.
    discount : of the counts in memory, per round of age, for the curriculum.
    floor, mastery, by : of the curriculum.
    most : proposals of a step, as a multiple of the batch, at least 1.
    examples : solved tasks out of memory shown to the proposer.
    shared_weight : of the shared reward in a proposal's learnability.
    share : of the round's proposals, how many are reported to be shown to the neighbours.
    free : the proposer chooses skill and difficulty itself, see `proposers.FreeProposer`.
    """

    group: int
    weight: float
    discount: float
    floor: float
    mastery: float
    examples: int
    by: str = "skill"
    most: float = 2.0
    shared_weight: float = 0.0
    share: int = 0
    free: bool = False


@dataclass(frozen=True)
class _Draft:
    """Proposals sampled at once, and the task that each of them is, or None."""

    rollout: Rollout
    written: list[Task | None]


class SelfPlay:
    """A learner that is given skills and no tasks. Writes nothing into the memory; its report holds the attempts.

    Parameters
    ----------
    policy : holds the adapter that is trained, in place.
    skills : the agent's.
    memory : read at the beginning of a round.
    settings : `prompts` proposals per step, `samples` attempts at each that is a task.
    play : see there.
    seed : the agent's own.
    shared : the network's recent reward by skill, where known.
    baseline : of the solver's advantages.
    received : tasks of the neighbours, read and checked by the agent; each is solved once.
    """

    def __init__(
        self,
        policy: Policy,
        skills: Sequence[ProposingSkill],
        memory: Memory,
        settings: GRPOSettings,
        play: SelfPlaySettings,
        seed: int,
        shared: Mapping[str, float] | None = None,
        baseline: Baseline | None = None,
        received: Sequence[Task] = (),
    ) -> None:
        if play.group < 2 or settings.prompts % play.group:
            raise ValueError(f"group {play.group}: must be at least 2 and divide prompts, {settings.prompts}")
        self.skills = {skill.name: skill for skill in skills}
        self.memory = memory
        self.settings = settings
        self.play = play
        self.seed = seed
        self.shared = shared or {}
        self.baseline = baseline
        self.received = list(received)
        self.gradient = PolicyGradient(policy, settings)

    def improve(self, round: int, steps: int) -> LearnReport:
        """``steps`` steps of self-play. Deterministic in (adapter, optimizer state, memory, seed, round, steps)."""
        meter, stats = Meter(), ProposalStats(len(self.skills))
        played: list[Proposal] = []
        proposer = self._proposer()
        for step in range(steps):
            due = -(-len(self.received) // (steps - step))  # rounded up: all have had their turn at the end
            played += self._step(proposer, round, step, self.received[:due], meter, stats)
        return meter.report(steps, stats.figures(), most_learnable(played, self.play.share))

    def state(self) -> dict[str, np.ndarray]:
        """The optimizer's state, see `PolicyGradient.state`."""
        return self.gradient.state()

    def load_state(self, state: dict[str, np.ndarray]) -> None:
        """Take back what `state` gave; raises ValueError where it does not fit."""
        self.gradient.load_state(state)

    def _proposer(self) -> Proposer:
        """As of the round's beginning: the curriculum reads the memory."""
        if self.play.free:
            return FreeProposer(self.skills, self.play.group, self.gradient.policy.base.tokenizer)
        curriculum = Curriculum(
            list(self.skills),
            self.memory.counts(self.play.discount),
            self.seed,
            floor=self.play.floor,
            mastery=self.play.mastery,
            by=self.play.by,
            samples=self.settings.samples,
        )
        return CellProposer(self.skills, curriculum, self.memory, self.play.group, self.play.examples)

    def _step(
        self,
        proposer: Proposer,
        round: int,
        step: int,
        due: Sequence[Task],
        meter: Meter,
        stats: ProposalStats,
    ) -> list[Proposal]:
        """The agent's own proposals that were tried. Of the tasks due those that are solved leave `received`."""
        sequence = np.random.SeedSequence([self.seed, _STREAM, round, step])
        rng = np.random.default_rng(sequence)
        seeds = sequence.generate_state(3)
        policy = self.gradient.digest()
        guests = due[: self.settings.prompts // 2]
        with meter.clock("generate"):
            drafts = self._propose(proposer, rng, self.settings.prompts - len(guests), int(seeds[0]))
        written = [task for draft in drafts for task in draft.written]
        own = _to_solve(written)[: self.settings.prompts - len(guests)]
        stats.proposed(written)
        if not own:
            return []
        guests = share_of_batch(guests, own)
        self.received = [task for task in self.received if task not in guests]
        tasks = [*own, *guests]
        with meter.clock("generate"):
            solved = self.gradient.sample(
                [task.prompt for task in tasks], self.settings.samples, int(seeds[1])
            )
        with meter.clock("score"):
            rewards_NG = task_rewards(tasks, solved.texts)
            advantages_NG = advantages(tasks, rewards_NG, self.settings.scale_rewards, self.baseline)
        tokens = int(solved.completion_mask.sum() + sum(d.rollout.completion_mask.sum() for d in drafts))
        meter.sampled([task.skill for task in tasks], rewards_NG, advantages_NG, tokens)
        meter.attempted(tasks, solved.texts, rewards_NG, policy)
        rates = list(zip(own, rewards_NG[: len(own)].mean(dim=1).tolist(), strict=True))
        scored = [Scored(solved, policy, advantages_NG.flatten(), self.settings.samples)]
        if self.play.weight > 0:
            success = {task.prompt: self._with_shared(task.skill, rate) for task, rate in rates}
            paid = proposer.advantages(written, success)
            for draft, part in zip(drafts, torch.split(paid, [len(d.written) for d in drafts]), strict=True):
                weight = self.play.weight * len(draft.written) / len(written)
                scored.append(Scored(draft.rollout, policy, part, self.play.group, weight))
        self.gradient.update(scored, int(seeds[2]), meter)
        said = [text for draft in drafts for text in draft.rollout.texts]
        texts = {task.prompt: text for task, text in zip(written, said, strict=True) if task}
        return [
            Proposal(task.skill, task.difficulty, texts[task.prompt], rate, self.settings.samples)
            for task, rate in rates
        ]

    def _propose(self, proposer: Proposer, rng: np.random.Generator, wanted: int, seed: int) -> list[_Draft]:
        """Proposals until ``wanted`` distinct tasks are among them, or ``most`` times as many were asked for."""
        drafts: list[_Draft] = []
        found: list[Task | None] = []
        missing, left = wanted, round(self.play.most * wanted)
        while missing > 0 and left > 0:
            asked = proposer.requests(rng, min(missing, left), _to_solve(found))
            rollout = self.gradient.sample([request.prompt for request in asked], 1, seed + len(drafts))
            drafts.append(
                _Draft(
                    rollout, [proposer.read(r, text) for r, text in zip(asked, rollout.texts, strict=True)]
                )
            )
            found += drafts[-1].written
            missing, left = wanted - len(_to_solve(found)), left - len(asked)
        return drafts

    def _with_shared(self, skill: str, rate: float) -> float:
        """A success rate drawn towards what the network earns in the skill (section 5.2 (4)).

        It enters here because learnability is no linear function: a term that all proposals for a cell share would go
        with the cell's mean. A task that the agent fails and the network would solve gains; one that it solves where
        the network fails gains as well.
        """
        weight = self.play.shared_weight
        return (1 - weight) * rate + weight * self.shared[skill] if skill in self.shared else rate


def _to_solve(written: Sequence[Task | None]) -> list[Task]:
    """The distinct tasks among proposals, in their order, without those that are reserved for evaluation."""
    tasks = [task for task in written if task is not None and not is_reserved(task.prompt)]
    return list({task.prompt: task for task in tasks}.values())
