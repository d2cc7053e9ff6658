"""The trainer of `centralized`: agent 0, the only one that learns (section 6.2).

The life of a step reads top to bottom here: `merge` (take rollouts, refuse what cannot be right), `train` (recompute
what they claim, judge, improve, publish, commit). Without workers it samples by itself, with the newest weights: that
is "synchronous centralized", the upper bound.
"""

from __future__ import annotations

from collections.abc import Mapping
from logging import WARNING

import numpy as np
from flwr.common import log

from clients.agents.evaluation import evaluation
from clients.agents.rollout_agent import RolloutAgent
from clients.agents.trace import Trace
from clients.home.home import Home
from clients.protocol.addressing import label_for
from clients.protocol.report import AgentError, Report
from symphony_fl import refusals
from symphony_fl.build.centralized import oldest_age, parts_of, rollout_seed, workers
from symphony_fl.config.options import Recipe
from symphony_fl.exchange.broadcast import Publisher
from symphony_fl.exchange.flat import digest
from symphony_fl.exchange.messages.rollouts import Rollouts, check_completions, open_rollouts
from symphony_fl.learning.report import Meter
from symphony_fl.learning.rl.rollout_learner import Sampled
from symphony_fl.learning.rl.rollouts import check_sampled, rebuilt
from symphony_fl.refusals import Refusal

OPTIMIZER, BROADCAST, VERSIONS = "optimizer/", "broadcast/", "version/"  # of arrays in the home
_STREAM = 0x55  # separates the update's chance (dropout) from other chance of the same seed


class Trainer(RolloutAgent):
    """Keeps the weights, the workers' copy of them, and the versions that rollouts may still name."""

    def __init__(self, home: Home, number: int, recipe: Recipe, run: str) -> None:
        super().__init__(home, number, recipe, run)
        options = recipe.centralized
        self.trace = Trace(home.folder, recipe.tracking.trace)
        self.publisher = Publisher(
            self.session,
            self.key,
            self.copy,
            chunk=options.chunk,
            bandwidth=options.bandwidth,
            whole_every=options.whole_every,
        )
        self.versions = {0: self.initial}  # version -> what workers generate with, float32 [P]
        self.rollouts: dict[int, Rollouts] = {}  # part -> of the step to come
        self.offered = 0
        if self.state.round:
            self.learner.load_state(self.kept(OPTIMIZER))
        kept = self.kept(BROADCAST)
        if kept:
            self.publisher.load(kept)
            self.versions = {int(name): array for name, array in self.kept(VERSIONS).items()}

    def merge(
        self, mail: Mapping[str, bytes], roster: dict[int, str], rotations: bytes = b"", *, keep: bool = True
    ) -> None:
        """Take the rollouts of the step to come. What is refused is counted by name and stops nothing. Nothing is kept
        before the step: rollouts whose message was not answered come again."""
        self.admit(roster, rotations)
        self.rollouts = {}
        for data in mail.values():
            self.offered += 1
            try:
                rollouts = self._open(data)
            except Refusal as error:
                self.refused(error)
                continue
            self.rollouts[rollouts.part] = rollouts

    def train(self, round: int) -> Report:
        """One step on the rollouts that are there and hold. Asked twice for the same step, answers twice the same.

        Raises
        ------
        AgentError
            It is not the step after the last.
        """
        answered = self.repeated(round)
        if answered is not None:
            return answered
        if round != self.state.round + 1:
            raise AgentError(f"step {round} was asked for, step {self.state.round + 1} is next")
        meter = Meter()
        with self.timed("verify"):
            parts = self._verified(round)
        self.policy.set(self.state.adapter)
        if self.recipe.agents == 1:
            parts = self._sampled(round, meter)
        known = {digest(weights) for weights in self.versions.values()}
        seed = int(np.random.SeedSequence([self.recipe.seed, _STREAM, round]).generate_state(1)[0])
        with self.timed("learn"):
            report = self.learner.learn(parts, known, seed, meter)
        before, self.state.adapter = self.state.adapter, self.policy.get()
        self.metrics |= self.trace.learnt(round, self.state.adapter - before)
        if parts:
            self.record(report)
            self.metrics["clip_fraction"] = report.clip_fraction
        else:
            log(WARNING, "trainer: no rollouts for step %d hold; nothing is learnt", round)
        with self.timed("seal"):
            outbox = self._publish(round)
        self.keep(OPTIMIZER, self.learner.state())
        averaged = {"num-examples": float(len(parts)), "reward": report.reward}
        return self.finish(round, averaged, self.adapter_digest(), outbox)

    def evaluate(self, round: int) -> Report:
        """Greedy held-out accuracy on every skill; at the end, export the adapter."""
        self.policy.set(self.state.adapter)
        found, solved = evaluation(self.policy, self.recipe, self.number, round, self.home.folder)
        self.metrics |= found
        self.trace.evaluated(round, self.state.adapter - self.initial)
        averaged = {"num-examples": float(len(solved)), "accuracy": found["accuracy/mean"]}
        return Report(averaged, self.metrics, self.adapter_digest(), solved=solved)

    def _open(self, data: bytes) -> Rollouts:
        """Everything that can be refused without the model, in the order of `refusals.ROLLOUT_REFUSALS`."""
        options = self.recipe.centralized
        known = {
            self.state.roster[str(n)]: n for n in workers(self.recipe.agents) if str(n) in self.state.roster
        }
        did, rollouts = open_rollouts(data, self.form, list(known))
        step = self.state.round + 1
        if rollouts.step > step or rollouts.version >= step:
            raise refusals.FromTheFuture(
                f"step {rollouts.step} of version {rollouts.version}, step {step} is next"
            )
        if rollouts.step < step or step - 1 - rollouts.version > oldest_age(self.recipe):
            raise refusals.TooStale(
                f"step {rollouts.step} of version {rollouts.version}, step {step} is next"
            )
        if rollouts.part not in parts_of(known[did], self.recipe.agents, options.parts):
            raise refusals.WrongTask(f"part {rollouts.part} was not dealt to agent {known[did]}")
        if rollouts.part in self.rollouts:
            raise refusals.Replayed(f"part {rollouts.part} of step {step} is here already")
        rows = len(self.part(step, rollouts.part)) * self.recipe.learner.samples
        check_completions(rollouts, self.form, rows)
        weights = self.versions.get(rollouts.version)
        if weights is None or digest(weights) != rollouts.policy:
            raise refusals.WrongPolicy(f"version {rollouts.version} was never sent out so")
        return rollouts

    def _verified(self, step: int) -> list[Sampled]:
        """The rollouts that the weights they name sample with the step's chance."""
        found, gap = [], 0.0
        for _, rollouts in sorted(self.rollouts.items()):
            try:
                sampled, apart = self._recomputed(step, rollouts)
            except Refusal as error:
                self.refused(error)
                continue
            found.append(sampled)
            gap = max(gap, apart)
            self.metrics["staleness"] = self.metrics.get("staleness", 0.0) + step - 1 - rollouts.version
        if found:
            self.metrics["staleness"] /= len(found)
            self.metrics["recomputed"] = gap
        if self.offered:
            self.metrics["rollouts/refused"] = 1 - len(found) / self.offered
        if self.recipe.agents > 1:
            self.metrics["rollouts/missing"] = 1 - len(found) / self.recipe.centralized.parts
        self.rollouts, self.offered = {}, 0
        return found

    def _recomputed(self, step: int, rollouts: Rollouts) -> tuple[Sampled, float]:
        """What was sampled, and how far its log-probabilities are from the trainer's own.

        Raises
        ------
        WrongLogprobs, NotSampled
        """
        tasks = self.part(step, rollouts.part)
        prompts = [task.prompt for task in tasks for _ in range(self.recipe.learner.samples)]
        rollout = rebuilt(self.policy.base, prompts, rollouts.lengths, rollouts.ids, rollouts.logprobs)
        self.policy.set(self.versions[rollouts.version])
        settings = self.learner.settings
        apart, missed = check_sampled(
            self.policy,
            rollout,
            temperature=settings.temperature,
            max_new_tokens=settings.max_new_tokens,
            seed=rollout_seed(self.recipe.seed, step, rollouts.part),
            rows_per_pass=settings.rows_per_pass,
        )
        options = self.recipe.centralized
        if apart > options.tolerance:
            raise refusals.WrongLogprobs(
                f"log-probabilities differ by {apart:.3g}, at most {options.tolerance:g}"
            )
        if missed > options.chance_tolerance:
            raise refusals.NotSampled(f"chance is off by {missed:.3g}, at most {options.chance_tolerance:g}")
        return Sampled(tasks, rollout, rollouts.policy), apart

    def _sampled(self, step: int, meter: Meter) -> list[Sampled]:
        """Without workers: all parts, one after the other."""
        self.metrics["staleness"] = 0.0
        with meter.clock("generate"):
            return [
                self.learner.sample(self.part(step, part), rollout_seed(self.recipe.seed, step, part))
                for part in range(self.recipe.centralized.parts)
            ]

    def _publish(self, step: int) -> dict[str, bytes]:
        """What of the weights leaves with this step; nothing once no rollouts to come could be of them."""
        options, agents = self.recipe.centralized, self.recipe.agents
        if agents == 1 or step + options.lag >= self.recipe.rounds:
            return {}
        sent = self.publisher.publish(self.state.adapter, step)
        copy = self.publisher.copy
        self.versions[copy.version] = copy.policy
        least = step - oldest_age(self.recipe)
        self.versions = {version: array for version, array in self.versions.items() if version >= least}
        self.keep(BROADCAST, self.publisher.arrays())
        self.keep(VERSIONS, {str(version): array for version, array in self.versions.items()})
        moved = float(np.linalg.norm(self.state.adapter - self.initial))
        if moved:
            self.metrics["drift"] = self.publisher.residual(self.state.adapter) / moved
        self.metrics["version"] = float(copy.version)
        self.metrics["envelope_bytes"] = float(sum(map(len, sent)))
        return {label_for(number): data for number, data in enumerate(sent)}
