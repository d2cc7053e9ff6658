"""Four messages and their answers: what an agent does when the server asks, without Flower's processes around it.

    hello      agent number, did:key, base model, rounds finished, and envelopes a stopped server lost
    adapter    the agent's adapter as it stands: FedAvg's starting point
    train      one round: merge what came, improve, hand over what is shared; see `Agent` for the steps
    evaluate   merge what came, then answer the held-out tasks of all skills

In simulation a service lives for one message; in the agent process it keeps its agent open from message to message.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from logging import WARNING
from pathlib import Path

from flwr.app import ConfigRecord, RecordDict
from flwr.common import log

from clients.agent import Agent
from clients.ahead import rounds_ahead
from clients.home import Home
from clients.messages import (
    ARRAYS,
    CONFIG,
    MAIL,
    OUTBOX,
    ROTATIONS,
    ROUND,
    MessageError,
    config_value,
    pack_adapter,
    pack_envelopes,
    pack_report,
    unpack_adapter,
    unpack_envelopes,
    unpack_roster,
    unpack_rotations,
)
from symphony_fl import __version__
from symphony_fl.asynchrony import last_round
from symphony_fl.components import check_recipe
from symphony_fl.recipe import RecipeError, recipe_from_json


class Service:
    """Answers messages for one agent.

    Parameters
    ----------
    number : the agent's number
    home_of : the agent's home in the run of that name; the name comes from the network
    lasting : keep agent and home open between messages, and the home locked against other processes
    """

    def __init__(self, number: int, home_of: Callable[[str], Home], *, lasting: bool) -> None:
        self.number = number
        self.home_of = home_of
        self.lasting = lasting
        self.agent: Agent | None = None
        self.run = ""
        self.fetched = 0  # newest round whose answer was given
        self._answers = {
            "hello": self._hello,
            "adapter": self._adapter,
            "train": self._train,
            "evaluate": self._evaluate,
        }

    @classmethod
    def in_process(cls, number: int, home: Path) -> Service:
        """For one message, in whatever process it came to: the home is opened, locked and let go again."""
        return cls(number, lambda run: Home(home), lasting=False)

    def answer(self, kind: str, content: RecordDict) -> RecordDict:
        """The answer to a message of that kind.

        Raises
        ------
        MessageError, RecipeError, HomeError, AgentError
            The message cannot be answered; nothing was changed by it. A lasting agent is opened anew from its home.
        """
        if kind not in self._answers:
            raise MessageError(f"message of kind {kind!r:.80}: known are {', '.join(self._answers)}")
        return self._answers[kind](content)

    def ahead(self) -> bool:
        """Work ahead by one round where the run's strategy lets agents do so; False if there is nothing to do.

        "Keeps improving even in the absence of external requests" (section 5.4.1), and stops when as many rounds are
        finished but not fetched as the strategy allows.
        """
        agent = self.agent
        if agent is None:
            return False
        allowed = min(self.fetched + rounds_ahead(agent.recipe), last_round(agent.recipe))
        if not self.fetched or agent.state.round >= allowed:
            return False
        with self._undone_on_failure():
            agent.begin()
            agent.train(agent.state.round + 1)
        return True

    def close(self) -> None:
        """Let go of the agent and its home."""
        agent, self.agent = self.agent, None
        if agent is not None:
            agent.close()
            agent.home.release()

    def _hello(self, content: RecordDict) -> RecordDict:
        recipe_json = config_value(content, "recipe", str)
        recipe = check_recipe(recipe_from_json(recipe_json))
        if self.number >= recipe.agents:  # a spare node: it has no part in this run, hence no home
            return RecordDict({CONFIG: ConfigRecord({"agent": self.number})})
        run = config_value(content, "run", str)
        if self.agent is None or self.run != run:
            home = self.home_of(run)
            with home.locked():
                home.found(run, recipe_json)
        with self._opened(content) as agent:
            introduction = ConfigRecord(
                {
                    "agent": self.number,
                    "did": agent.did,
                    "base": agent.base_digest,
                    "round": agent.state.round,
                    "version": __version__,
                }
            )
            rotations = agent.home.rotations()
            if rotations:
                introduction[ROTATIONS] = rotations
            outbox = {
                f"{number}/{label}": data
                for number, envelopes in agent.state.outbox.items()
                for label, data in envelopes.items()
            }
            return RecordDict({CONFIG: introduction, OUTBOX: pack_envelopes(outbox)})

    def _adapter(self, content: RecordDict) -> RecordDict:
        with self._opened(content) as agent:
            return RecordDict({ARRAYS: pack_adapter(agent.give())})

    def _train(self, content: RecordDict) -> RecordDict:
        with self._opened(content) as agent:
            round = config_value(content, ROUND, int)
            # Where the round is finished already, its adapter is not to be replaced by the server's (FedAvg).
            if ARRAYS not in content or round not in agent.state.reports:
                _receive(agent, content)
            report = agent.train(round)
            self.fetched = round
            answer = RecordDict(pack_report(report.averaged, report.details()))
            if ARRAYS in content:  # FedAvg: the adapter itself goes back, for the server to average
                answer[ARRAYS] = pack_adapter(agent.give())
            else:
                answer[OUTBOX] = pack_envelopes(report.outbox)
            return answer

    def _evaluate(self, content: RecordDict) -> RecordDict:
        with self._opened(content) as agent:
            kept = agent.state.adapter
            _receive(agent, content)
            report = agent.evaluate(config_value(content, ROUND, int))
            if ARRAYS in content:  # FedAvg's global adapter was lent for this evaluation only
                agent.state.adapter = kept
            return RecordDict(pack_report(report.averaged, report.details()))

    @contextmanager
    def _opened(self, content: RecordDict) -> Iterator[Agent]:
        """The agent of the message's run, opened from its home, which nobody else may use meanwhile.

        Raises
        ------
        RecipeError
            The home was founded for another run or recipe than the message is of.
        """
        run, digest = config_value(content, "run", str), config_value(content, "digest", str)
        if self.agent is not None and self.run != run:
            self.close()
        agent = self.agent or self._open(run)
        try:
            for key, theirs, ours in (("run", run, self.run), ("digest", digest, agent.recipe.digest)):
                if theirs != ours:
                    raise RecipeError(f"{key} = {theirs!r}: this agent belongs to {ours!r}")
            with self._undone_on_failure():
                agent.begin()
                yield agent
        finally:
            if not self.lasting:
                self.close()

    def _open(self, run: str) -> Agent:
        home = self.home_of(run)
        home.acquire()
        try:
            founding = home.founding()
            recipe = recipe_from_json(founding["recipe_json"])
            self.agent = Agent(home, self.number, recipe, founding["run"])
        except BaseException:
            home.release()
            raise
        self.run, self.fetched = founding["run"], 0
        return self.agent

    @contextmanager
    def _undone_on_failure(self) -> Iterator[None]:
        """What a failed message left in memory is forgotten: the next one opens the home at its last commit."""
        try:
            yield
        except BaseException:
            self.close()
            raise


def _receive(agent: Agent, content: RecordDict) -> None:
    if ARRAYS in content:
        agent.adopt(unpack_adapter(content.array_records[ARRAYS]))
        return
    roster = unpack_roster(content)
    try:
        mail = unpack_envelopes(content, MAIL)
    except MessageError as error:  # whoever carries the mail can lose it, and no more than that
        log(WARNING, "agent %d: mail refused: %s", agent.number, error)
        agent.metrics["refused/message"] = 1.0
        mail = {}
    agent.merge(mail, roster, unpack_rotations(content))
