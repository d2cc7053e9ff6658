"""Four messages and their answers: what an agent does when the server asks, without Flower's processes around it.

    hello      agent number, did:key, base model, common start, rounds finished, and envelopes a stopped server lost
    adapter    the agent's adapter as it stands: FedAvg's starting point
    train      one round: merge the mail, train, return what is shared; see `Agent` for the steps
    evaluate   merge the mail, then answer the held-out tasks of all skills

In simulation a service lives for one message; in the agent process it keeps its agent open from message to message.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from logging import WARNING
from pathlib import Path

from flwr.app import ConfigRecord, RecordDict
from flwr.common import log

from clients.agents.agent import Agent
from clients.home.home import Home
from clients.home.inbox import Name
from clients.protocol.greeting import Greeting, read_greeting
from clients.protocol.messages import (
    ADDRESSES,
    ARRAYS,
    CONFIG,
    OUTBOX,
    PROOF,
    ROTATIONS,
    ROUND,
    MessageError,
    config_value,
    pack_adapter,
    pack_envelopes,
    pack_report,
    unpack_adapter,
    unpack_address_book,
    unpack_roster,
    unpack_rotations,
)
from clients.protocol.report import Report
from clients.service.residents import Resident, mail_of, open_resident
from clients.transport.endpoint import Endpoint
from clients.transport.peer_to_peer import PeerToPeer, together
from symphony_fl import __version__
from symphony_fl.build.asynchrony import last_round, rounds_ahead
from symphony_fl.config.allowed import Allowed
from symphony_fl.config.recipe import RecipeError, recipe_from_json
from symphony_fl.exchange.flat import digest
from symphony_fl.identity.proof_of_possession import prove


class Service:
    """Answers messages for one agent.

    Parameters
    ----------
    number : the agent's number
    home_of : the agent's home in the run of that name; the name comes from the network
    lasting : keep agent and home open between messages, and the home locked against other processes
    endpoint : makes the QUIC endpoint of that private key, at the first run that needs one; None where it could not be
        reached between two messages
    allowed : what a recipe may name of this machine; None where its author is this machine's user
    """

    def __init__(
        self,
        number: int,
        home_of: Callable[[str], Home],
        *,
        lasting: bool,
        endpoint: Callable[[bytes], Endpoint] | None = None,
        allowed: Allowed | None = None,
    ) -> None:
        self.number = number
        self.home_of = home_of
        self.lasting = lasting
        self.agent: Resident | None = None
        self.peer_to_peer: PeerToPeer | None = None  # of the agent, where the recipe wants it
        self.allowed = allowed
        self._endpoint_of = endpoint
        self._endpoint: Endpoint | None = None  # outlives runs
        self.run = ""
        self.fetched = 0  # newest round whose answer was given
        # (run, round, adapter) and what its evaluation said: of the last one
        self._evaluated: tuple[tuple[str, int, bytes], Report | None] = (("", 0, b""), None)
        self._answers = {
            "hello": self._hello,
            "adapter": self._adapter,
            "train": self._train,
            "evaluate": self._evaluate,
        }

    @classmethod
    def in_process(cls, number: int, home: Path, allowed: Allowed | None = None) -> Service:
        """For one message, in whatever process it came to: the home is opened, locked and let go again."""
        return cls(number, lambda run: Home(home), lasting=False, allowed=allowed)

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

        "Even in the absence of external user requests" agents improve (section 5.4.1). This stops when as many rounds
        are finished but not fetched as the strategy allows.
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

    def stop(self) -> None:
        """Let go of everything."""
        self.close()
        if self._endpoint is not None:
            self._endpoint.close()

    def close(self) -> None:
        """Let go of the agent and its home."""
        agent, self.agent, self.peer_to_peer = self.agent, None, None
        if self._endpoint is not None:
            self._endpoint.serve(None)
        if agent is not None:
            agent.close()
            agent.home.release()

    def _hello(self, content: RecordDict) -> RecordDict:
        greeting = read_greeting(content, self.allowed)
        recipe = greeting.recipe
        if self.number >= recipe.agents:  # a spare node: it has no part in this run, hence no home
            return RecordDict({CONFIG: ConfigRecord({"agent": self.number})})
        if recipe.exchange.transport == "iroh" and self._endpoint_of is None:
            raise RecipeError(
                "exchange.transport = 'iroh': must be 'superlink' in simulation, where no agent is there between two "
                "messages; for devices see `symphony up`"
            )
        home = self.home_of(greeting.run)
        home.check(greeting.recipe)
        made = home.make()
        try:
            if self.agent is None or self.run != greeting.run:
                with home.locked():
                    home.found(greeting.run, recipe.to_json())
            return self._introduced(greeting, content)
        except Exception:
            if made:  # a greeting that failed takes up no place
                home.discard()
            raise

    def _introduced(self, greeting: Greeting, content: RecordDict) -> RecordDict:
        """Who this agent is, and what a stopped server may have lost."""
        with self._opened(content) as agent:
            introduction = ConfigRecord(
                {
                    "agent": self.number,
                    "did": agent.did,
                    "base": agent.base_digest,
                    "start": digest(agent.initial).hex(),
                    "round": agent.state.round,
                    "version": __version__,
                }
            )
            rotations = agent.home.rotations()
            if rotations:
                introduction[ROTATIONS] = rotations
            if self.peer_to_peer is not None:
                introduction[ADDRESSES] = self.peer_to_peer.addresses()
            introduction[PROOF] = prove(agent.home.key(), greeting.run, greeting.nonce, self.number)
            outbox = {
                f"{number}/{label}": data
                for number, envelopes in agent.state.outbox.items()
                for label, data in self._left(number, envelopes).items()
            }
            return RecordDict({CONFIG: introduction, OUTBOX: pack_envelopes(outbox)})

    def _adapter(self, content: RecordDict) -> RecordDict:
        with self._opened(content) as agent:
            return RecordDict({ARRAYS: pack_adapter(agent.give())})

    def _train(self, content: RecordDict) -> RecordDict:
        with self._opened(content) as agent:
            round = config_value(content, ROUND, int)
            brought: list[Name] = []
            # Where the round is finished already, its adapter is not to be replaced by the server's (FedAvg).
            if ARRAYS not in content or round not in agent.state.reports:
                brought = self._receive(agent, content, round, keep=False)
            report = agent.train(round)
            self._forget(brought)
            self.fetched = round
            if ARRAYS in content:  # FedAvg: the adapter itself goes back, for the server to average
                answer = RecordDict(pack_report(report.averaged, report.details()))
                answer[ARRAYS] = pack_adapter(agent.give())
                return answer
            answer = RecordDict()
            if self.peer_to_peer is not None:
                report = replace(
                    report, metrics=report.metrics | self.peer_to_peer.send(round, report.outbox)
                )
                answer[CONFIG] = ConfigRecord({ADDRESSES: self.peer_to_peer.addresses()})
            answer.update(pack_report(report.averaged, report.details()))
            answer[OUTBOX] = pack_envelopes(self._left(round, report.outbox))
            return answer

    def _evaluate(self, content: RecordDict) -> RecordDict:
        with self._opened(content) as agent:
            kept = agent.state.adapter
            round = config_value(content, ROUND, int)
            self._forget(self._receive(agent, content, round + 1, keep=True))
            asked = self.run, round, digest(agent.state.adapter)
            if asked != self._evaluated[0]:  # asked twice, it answers twice the same, and takes its time once
                self._evaluated = asked, agent.evaluate(round)
            report = self._evaluated[1]
            assert report is not None
            if ARRAYS in content:  # FedAvg's global adapter was lent for this evaluation only
                agent.state.adapter = kept
            return RecordDict(pack_report(report.averaged, report.details()))

    def _left(self, round: int, outbox: Mapping[str, bytes]) -> Mapping[str, bytes]:
        """What of a round's outbox goes by the mailbox."""
        return outbox if self.peer_to_peer is None else self.peer_to_peer.left(round, outbox)

    def _receive(self, agent: Resident, content: RecordDict, before: int, *, keep: bool) -> list[Name]:
        """Merge what the message brings, and what neighbours brought themselves of rounds below `before`: a neighbour
        may be done with the round that this agent begins, and its mail belongs to the next one. Without `keep` a round
        follows, whose commit holds all this. Returns what neighbours brought, to be forgotten when it is on disk."""
        if ARRAYS in content:
            agent.adopt(unpack_adapter(content.array_records[ARRAYS]))
            return []
        roster, mail = unpack_roster(content), mail_of(agent, content)
        if self.peer_to_peer is None:
            agent.merge(mail, roster, unpack_rotations(content), keep=keep)
            return []
        assert isinstance(agent, Agent)
        brought, names, figures = self.peer_to_peer.collect(before if agent.exchange.in_step else None)
        agent.metrics |= figures
        agent.merge(together(mail, brought), roster, unpack_rotations(content), keep=keep)
        try:
            self.peer_to_peer.know(unpack_address_book(content))
        except MessageError as error:  # without addresses, mail goes through the mailbox
            log(WARNING, "agent %d: addresses refused: %s", agent.number, error)
            agent.metrics["refused/message"] = 1.0
        return names

    def _forget(self, brought: Sequence[Name]) -> None:
        if self.peer_to_peer is not None:
            self.peer_to_peer.forget(brought)

    @contextmanager
    def _opened(self, content: RecordDict) -> Iterator[Resident]:
        """The agent of the message's run, opened from its home, which stays locked meanwhile.

        Raises
        ------
        RecipeError
            The home was founded for another run or recipe than the message's.
        """
        run, digest = config_value(content, "run", str), config_value(content, "digest", str)
        if self.agent is not None and self.run != run:
            self.close()
        agent = self.agent or self._open(run)
        try:
            for key, theirs, ours in (("run", run, self.run), ("digest", digest, agent.recipe.digest)):
                if theirs != ours:
                    said = f"{key} = {theirs!r:.80}: "
                    raise RecipeError(
                        f"{said}this agent belongs to {ours!r}", f"{said}not what greeted this agent"
                    )
            with self._undone_on_failure():
                agent.begin()
                yield agent
        finally:
            if not self.lasting:
                self.close()

    def _open(self, run: str) -> Resident:
        home = self.home_of(run)
        home.acquire()
        try:
            founding = home.founding()
            recipe = recipe_from_json(founding["recipe_json"], files=self.allowed is None)
            if self.allowed is not None:  # the owner may allow less than at the greeting
                self.allowed.check(recipe)
            self.agent = open_resident(home, self.number, recipe, founding["run"])
            if recipe.exchange.transport == "iroh":
                assert isinstance(self.agent, Agent)  # check_recipe sees to it
                self.peer_to_peer = PeerToPeer(self.agent, self._bound(home))
        except BaseException:
            self.close()
            home.release()
            raise
        self.run, self.fetched = founding["run"], 0
        if self.agent.damage:
            log(WARNING, "agent %d: HomeError: %s; restored from its copy", self.number, self.agent.damage)
        return self.agent

    def _bound(self, home: Home) -> Endpoint:
        assert self._endpoint_of is not None  # or the greeting was refused
        if self._endpoint is None:
            self._endpoint = self._endpoint_of(home.key())
        return self._endpoint

    @contextmanager
    def _undone_on_failure(self) -> Iterator[None]:
        """What a failed message left in memory is forgotten: the next one opens the home at its last commit."""
        try:
            yield
        except BaseException:
            self.close()
            raise
