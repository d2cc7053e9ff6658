"""A rollout worker of `centralized`: takes weights, hands them on, samples what it was dealt (sections 6.2, 6.3)."""

from __future__ import annotations

from collections.abc import Mapping

from clients.agents.rollout_agent import RolloutAgent
from clients.home.home import Home
from clients.protocol.addressing import label_for
from clients.protocol.report import AgentError, Report
from symphony_fl.build.centralized import TRAINER, hands_on, parts_of, rollout_seed
from symphony_fl.config.options import Recipe
from symphony_fl.exchange.broadcast import Subscriber
from symphony_fl.exchange.messages.rollouts import Rollouts, seal_rollouts
from symphony_fl.learning.rl.rollouts import flat_completions
from symphony_fl.refusals import Refusal, UnknownSender, WrongCopy

BROADCAST = "broadcast/"  # of the subscriber's arrays in the home


class Worker(RolloutAgent):
    """Trains nothing and judges nothing; its home's adapter is what it generates with."""

    def __init__(self, home: Home, number: int, recipe: Recipe, run: str) -> None:
        super().__init__(home, number, recipe, run)
        options = recipe.centralized
        self.broadcast = Subscriber(self.session, self.copy, options.chunk, recipe.rounds)
        kept = self.kept(BROADCAST)
        if kept:
            self.broadcast.load(kept)

    def merge(
        self, mail: Mapping[str, bytes], roster: dict[int, str], rotations: bytes = b"", *, keep: bool = True
    ) -> None:
        """Take chunks of weights; new ones are forwarded with the next step's rollouts. They are committed only with
        that step: mail whose message was not answered is delivered again."""
        self.admit(roster, rotations)
        relaying = hands_on(self.number, self.recipe.agents, self.recipe.centralized.fanout)
        for data in mail.values():
            try:
                self.broadcast.take(data, self._trainer())
            except Refusal as error:
                self.refused(error)
                continue
            if relaying:
                self.state.relay[label_for(len(self.state.relay))] = data

    def train(self, round: int) -> Report:
        """Sample the parts of a step that are this worker's. Asked twice for the same step, answers twice the same.

        Raises
        ------
        AgentError
            The step lies behind the worker's last.
        """
        answered = self.repeated(round)
        if answered is not None:
            self._commit_weights()  # weights that came with this message are not delivered again
            return answered
        options = self.recipe.centralized
        with self.timed("merge"):
            astray = self.broadcast.advance(round - 1 - options.lag, self.state.roster.get(str(TRAINER), ""))
        if astray:
            self.refused(WrongCopy(), astray)
        copy = self.broadcast.copy
        self.policy.set(copy.policy)
        self.state.adapter = copy.policy
        outbox = dict(self.state.relay)
        tokens = 0
        with self.timed("generate"):
            for part in parts_of(self.number, self.recipe.agents, options.parts):
                data, count = self._sample(round, part, copy.version)
                outbox[label_for(len(outbox), [TRAINER])] = data
                tokens += count
        self.state.relay = {}
        self.keep(BROADCAST, self.broadcast.arrays())
        self.metrics |= {"version": float(copy.version), "tokens": float(tokens)}
        return self.finish(round, {"num-examples": float(tokens)}, self.adapter_digest(), outbox)

    def evaluate(self, round: int) -> Report:
        """Always an error: workers are never evaluated."""
        raise AgentError("a rollout worker is not evaluated: the weights are the trainer's")

    def _commit_weights(self) -> None:
        self.keep(BROADCAST, self.broadcast.arrays())
        self.commit()

    def _sample(self, step: int, part: int, version: int) -> tuple[bytes, int]:
        """(signed rollouts, tokens in them)."""
        seed = rollout_seed(self.recipe.seed, step, part)
        sampled = self.learner.sample(self.part(step, part), seed)
        lengths, ids, logprobs = flat_completions(sampled.rollout)
        rollouts = Rollouts(step, part, version, sampled.policy, lengths, ids, logprobs)
        return seal_rollouts(self.form, self.key, rollouts), ids.size

    def _trainer(self) -> str:
        did = self.state.roster.get(str(TRAINER))
        if did is None:
            raise UnknownSender("no trainer is known yet")
        return did
