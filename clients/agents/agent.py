"""One agent: a home, an adapter, skills of its own, and neighbours it exchanges updates with.

The life of one update reads top to bottom here: `merge`, `train` (improve, select, seal, commit). Knows no Flower.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from clients.agents.base_agent import BaseAgent
from clients.agents.edge_encryption import EdgeEncryption
from clients.agents.evaluation import evaluation
from clients.agents.exchange import Exchange
from clients.agents.task_sharing import TaskSharing, compared, sort_mail, waiting
from clients.agents.trace import Trace
from clients.home.home import Home
from clients.protocol.report import AgentError, Report
from symphony_fl.build.asynchrony import kept_outboxes
from symphony_fl.build.learners import recipe_learner, recipe_memory, recipe_reward
from symphony_fl.config.learning import SharedRewardOptions
from symphony_fl.config.options import Recipe
from symphony_fl.exchange.messages.header import RewardReport
from symphony_fl.learning.memory.episodes import Episode
from symphony_fl.learning.report import LearnReport
from symphony_fl.learning.tasks.task_sharing import Proposal


class Agent(BaseAgent):
    """An agent that learns by itself.

    Parameters
    ----------
    home, number, recipe : as of `BaseAgent`
    run : the run's name, part of every envelope
    """

    def __init__(self, home: Home, number: int, recipe: Recipe, run: str) -> None:
        super().__init__(home, number, recipe, kept_outboxes(recipe))
        begun = self.base, self.policy.layout, self.initial
        self.exchange = Exchange(self.key, number, recipe, run, *begun, self.state.arrays)
        self.letters = TaskSharing(self.key, self.exchange.session.run, recipe)
        self.encryption = EdgeEncryption(self.exchange) if recipe.exchange.encryption == "edge" else None
        self.shared: tuple[Proposal, ...] = ()  # of this round's own tasks, what the neighbours are shown
        self.earned: dict[str, tuple[float, int]] = {}  # by skill: mean reward and attempts of this round
        self.memory = recipe_memory(recipe, home.folder / "memory.sqlite")
        self.reward = recipe_reward(recipe, number)
        heard = self.kept("reward/")
        if heard:
            self.reward.load_state(heard)
        self.trace = Trace(home.folder, recipe.tracking.trace)
        self._unkept: Mapping[str, bytes] = {}  # mail that was merged and is not on disk
        self._kept = False  # whether the home keeps mail beside its last commit
        if self.founded:
            self.commit()
        self._merge_again()
        self.begin()

    def begin(self) -> None:
        """Before each message: no figures yet but that of a restored home, and the memory as of the last whole round
        (one that was killed before its commit is forgotten)."""
        super().begin()
        if self.memory is not None:
            self.memory.rewind(self.state.round)

    def close(self) -> None:
        """Let go of the files of the home."""
        if self.memory is not None:
            self.memory.close()

    def adopt(self, adapter: np.ndarray) -> None:
        """Take a server's averaged adapter, float32 [P], for one's own (FedAvg)."""
        if self.recipe.strategy.name != "fedavg":
            raise self.not_served()
        if adapter.shape != self.state.adapter.shape or not np.isfinite(adapter).all():
            raise AgentError(
                f"adapter received: shape {adapter.shape} or values not finite; P = {self.state.adapter.size}"
            )
        moved = float(np.linalg.norm(self.state.adapter - self.initial))
        if moved:
            self.metrics["drift"] = float(np.linalg.norm(self.state.adapter - adapter)) / moved
        self.state.adapter = adapter

    def give(self) -> np.ndarray:
        """The adapter itself, float32 [P], for a server that averages adapters (FedAvg)."""
        if self.recipe.strategy.name != "fedavg":
            raise self.not_served()
        return self.state.adapter

    def merge(
        self, mail: Mapping[str, bytes], roster: dict[int, str], rotations: bytes = b"", *, keep: bool = True
    ) -> None:
        """Open what came and merge it (eq. 4); take the neighbours' tasks for the next round. What is refused is
        counted by name and stops nothing.

        Parameters
        ----------
        keep : it is on disk when this returns; else when `train` does, which must follow in the same message
        """
        self.admit(roster, rotations)
        if mail:
            self._merge(mail)
            self._unkept = mail
        if keep:
            self._keep()

    def _merge(self, mail: Mapping[str, bytes]) -> None:
        if self.encryption is not None:
            with self.timed("decrypt"):
                mail, refused = self.encryption.open(self.state, mail)
            self.count(refused)
        envelopes, letters = sort_mail(mail)
        if letters:
            with self.timed("letters"):
                self.metrics |= self.letters.open(self.state, letters, self.exchange.near(self.state))
        with self.timed("merge"):
            merged = self.exchange.merge(self.state, envelopes)
            self.state.adapter = merged.adapter
        for sender, round, reports in merged.rewards:
            self.reward.hear(sender, round, reports)
        self.count(merged.metrics)

    def _keep(self) -> None:
        """Persist mail just merged: the server drops it once this agent has answered.

        Storing the mail writes fewer bytes than a commit, and merging it again gives the same result. Task messages
        need a commit: their programs run against a time limit, so opening them again can give another result.
        """
        mail = self._unkept
        if not mail:
            return
        if self._kept or self.letters.most or _size(mail) > self.state.adapter.nbytes:
            self.commit()
            return
        self.home.keep_mail(mail)
        self._unkept, self._kept = {}, True

    def _merge_again(self) -> None:
        """Bring back what was merged since the home's last commit."""
        mail, damage = self.home.kept_mail()
        self.damage = "; ".join(filter(None, (self.damage, damage)))
        if mail:
            self._merge(mail)
            self._kept = True

    def train(self, round: int) -> Report:
        """Improve for one round and seal what is shared. Asked twice for the same round, answers twice the same.

        Raises
        ------
        AgentError
            The round lies behind the agent's last.
        """
        answered = self.repeated(round)
        if answered is not None:
            self._keep()
            return answered
        averaged = self._improve(round)
        with self.timed("seal"):
            sealed = self.exchange.seal(self.state, round, self._tell(round))
            self.state.adapter = sealed.adapter
        self.metrics |= sealed.metrics
        outbox = sealed.outbox | self._letter(round) if sealed.outbox else {}
        if self.encryption is not None:
            with self.timed("encrypt"):
                outbox, figures = self.encryption.seal(self.state, outbox, round)
            self.count(figures)
        self.state.tasks = []
        self.state.relay = {}
        return self.finish(round, averaged, self.adapter_digest(), outbox)

    def evaluate(self, round: int) -> Report:
        """Greedy held-out accuracy on every skill, the agent's own or not; at the end, export the adapter."""
        self.policy.set(self.state.adapter)
        found, solved = evaluation(self.policy, self.recipe, self.number, round, self.home.folder)
        self.metrics |= found
        self.trace.evaluated(round, self.state.adapter - self.initial)
        if round == self.recipe.rounds and self._kept:
            self.commit()  # so that the home of a finished run holds everything merged
        averaged = {"num-examples": float(len(solved)), "accuracy": found["accuracy/mean"]}
        return Report(averaged, self.metrics, self.adapter_digest(), solved=solved)

    def _improve(self, round: int) -> dict[str, float]:
        """Local GRPO (eq. 7), starting from what the exchange rule says, on the agent's own skills."""
        values = {skill: self.reward.value(round, skill) for skill in self.recipe.tasks.skills}
        shared = {skill: value for skill, value in values.items() if value is not None}
        self.metrics |= {f"reward_shared/{skill}": value for skill, value in shared.items()}
        received = waiting(self.state)
        learner = recipe_learner(self.recipe, self.policy, self.number, self.memory, shared, received)
        optimizer = self.kept("optimizer/")
        if optimizer:
            learner.load_state(optimizer)
        start = self.exchange.start(self.state.adapter)
        self.policy.set(start)
        with self.timed("learn"):
            report = learner.improve(round, self.recipe.learner.steps)
        self.state.adapter = self.policy.get()
        self.metrics |= self.trace.learnt(round, self.state.adapter - start)
        self.state.arrays |= {f"optimizer/{name}": array for name, array in learner.state().items()}
        self.record(report)
        self.metrics |= report.figures
        self.metrics |= compared(self.state, report.attempts)
        self._remember(report, round)
        self.earned = report.earned()
        self.shared = report.shared
        options = self.recipe.learner
        return {
            "num-examples": float(options.steps * options.prompts * options.samples),
            "reward": report.reward,
        }

    def _tell(self, round: int) -> list[RewardReport]:
        """The rewards this agent reports; empty where no agent uses them, since every byte counts."""
        if not isinstance(self.recipe.reward, SharedRewardOptions):
            return []
        reports = [RewardReport(skill, mean, count) for skill, (mean, count) in self.earned.items()]
        self.reward.hear(self.number, round, reports)
        return reports

    def _letter(self, round: int) -> dict[str, bytes]:
        """What goes beside the envelope: tasks of this round for the neighbours to try."""
        letter = self.letters.seal(round, self.shared)
        if letter:
            self.metrics["letter_bytes"] = float(sum(map(len, letter.values())))
        return letter

    def _remember(self, report: LearnReport, round: int) -> None:
        """Into the memory M_i, as one transaction, before the home's commit: what a kill leaves behind is rewound."""
        if self.memory is None:
            return
        with self.timed("remember"):
            self.memory.record(
                round, [Episode(a.task, a.text, a.reward, a.policy, round) for a in report.attempts]
            )
        tried = [attempt.task.difficulty for attempt in report.attempts]
        self.metrics |= self.memory.figures() | ({"difficulty": sum(tried) / len(tried)} if tried else {})

    def commit(self) -> None:
        """With the state of the exchange and of the shared reward."""
        self.state.arrays |= self.exchange.arrays()
        if isinstance(self.recipe.reward, SharedRewardOptions):
            self.state.arrays |= {f"reward/{name}": array for name, array in self.reward.state().items()}
        super().commit()
        self._unkept, self._kept = {}, False


def _size(mail: Mapping[str, bytes]) -> int:
    return sum(map(len, mail.values()))
