"""From replies to figures: history, MLflow and the progress people watch. Strategies only call it."""

from __future__ import annotations

import re
import resource
import sys
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from logging import INFO, WARNING

from flwr.app import Message
from flwr.common import log

from clients.protocol.messages import MessageError, array_bytes, content_bytes, unpack_details
from strategies.grids.progress import tell
from symphony_fl.errors import printable
from symphony_fl.launch.failure_causes import said
from symphony_fl.launch.progress import Step
from symphony_fl.metrics.capabilities import agent_figures, network_figures, skill_scores
from symphony_fl.metrics.history import Event, History
from symphony_fl.tracking.tracker import Tracker

METRIC_NAME = re.compile(r"[a-z_]+(/[A-Za-z0-9_.-]+)?")
MAX_METRICS = 1000  # per reply
SHOWN = {"reward": "reward/local", "accuracy": "accuracy/mean", "sent": "bytes/sent"}  # beside the bar
DIRECT, FALLBACK = "direct/", "fallback/"  # `clients/transport/peer_to_peer.py`
MAX_DIRECT = 1 << 40  # bytes an agent may say it got from another at once


@dataclass(frozen=True)
class Report:
    """What an agent says of a round, read and checked: its figures, the digest of the adapter they belong to, and of
    an evaluation a 1 or a 0 for every held-out task."""

    metrics: dict[str, float]
    adapter: str
    solved: str


class Recorder:
    """Counts bytes and collects what agents report, round by round.

    With `direct`, agents exchange mail that the server does not see; its bytes are recorded as the receivers report
    them.
    """

    def __init__(
        self,
        history: History,
        tracker: Tracker,
        *,
        agents: int,
        rounds: int,
        evaluate_every: int,
        skills: Sequence[str],
        direct: bool = False,
    ) -> None:
        self.history = history
        self._tracker = tracker
        self._agents = agents
        self._rounds = rounds
        self._evaluate_every = evaluate_every
        self._skills = tuple(skills)
        self._direct = direct
        self.first_failure = ""  # of an agent in a round, and why
        self._started = time.monotonic()
        self._bytes: dict[int, dict[str, float]] = defaultdict(lambda: defaultdict(float))

    def evaluates(self, round: int) -> bool:
        """Whether agents are evaluated in this round: every so many rounds and in the last."""
        return round == self._rounds or round % self._evaluate_every == 0

    def sent(self, agent: int, size: int) -> None:
        self._bytes[agent]["bytes/sent"] += size

    def received(self, agent: int, size: int) -> None:
        self._bytes[agent]["bytes/received"] += size

    def edge(self, sender: int, recipient: int, size: int) -> None:
        """`size` bytes went from `sender` to `recipient`; they count for both ends."""
        self.sent(sender, size)
        self.received(recipient, size)
        self._bytes[recipient][f"bytes/edge/{sender}-{recipient}"] += size

    def message(self, agent: int, message: Message) -> None:
        """What Flower carried for that agent: whole contents, and the arrays in them, where all parameters are."""
        arrays = sum(array_bytes(record) for record in message.content.array_records.values())
        self._bytes[agent]["bytes/flower"] += content_bytes(message.content)
        self._bytes[agent]["bytes/superlink"] += arrays

    def report(self, kind: str, round: int, agent: int, message: Message) -> bool:
        """Take an agent's reply into the books; False if it reports an error or cannot be read."""
        read = self.read(kind, round, agent, message)
        if read is None:
            return False
        self.book(kind, round, agent, read)
        return True

    def read(self, kind: str, round: int, agent: int, message: Message) -> Report | None:
        """What an agent's reply says; None, with the reason said, if it reports an error or cannot be read."""
        if message.has_error():
            why = printable(said(str(message.error.reason)))
            log(WARNING, "agent %d failed in round %d: %s", agent, round, why)
            self.first_failure = self.first_failure or f"agent {agent}: {why}"
            return None
        self.message(agent, message)
        try:
            details = unpack_details(message.content)
            metrics = _checked(details.get("metrics", {}))
            if kind == "evaluate":
                _check_accuracies(metrics, self._skills)
                _check_solved(details.get("solved", ""))
            direct = _direct_bytes(metrics, self._agents) if self._direct else {}
        except MessageError as error:
            self.refused(round, agent, error)
            return None
        for sender, size in direct.items():
            self.edge(sender, agent, size)
            self._bytes[agent]["bytes/direct"] += size
        fallen = [f"{name.removeprefix(FALLBACK)}: {count:.0f}" for name, count in metrics.items()
                  if name.startswith(FALLBACK)]  # fmt: skip
        if fallen:
            log(INFO, "agent %d, round %d: edges by the mailbox (%s)", agent, round, ", ".join(fallen))
        return Report(metrics, str(details.get("adapter", ""))[:64], str(details.get("solved", "")))

    def book(
        self, kind: str, round: int, agent: int, report: Report, own: int = 0, clock: float = 0.0
    ) -> None:
        """Add a report to the history and the agent's MLflow run.

        Without a round barrier, `own` is the agent's own round and the step of its MLflow run, and `clock` the run's
        clock in seconds. With one, `own` is 0.
        """
        metrics = report.metrics | ({"own_round": float(own), "clock": clock} if own else {})
        self.history.add(Event(kind, round, agent, metrics, report.adapter, report.solved, own))
        self._tracker.agent(agent, own or round, metrics)

    def refused(self, round: int, agent: int, error: MessageError) -> None:
        """Log and count something unreadable that an agent sent; the run goes on."""
        log(WARNING, "agent %d, round %d: refused: %s", agent, round, error)
        self._bytes[agent]["refused/message"] += 1

    def round_finished(self, round: int) -> None:
        """Record the round's bytes and log the network's figures; before the first round, those of the agents'
        starting point."""
        self.book_bytes(round)
        self.log_figures(round)

    def book_bytes(self, round: int, more: bool = False) -> None:
        """Record the bytes counted since the last call as the round's; with `more`, add them to those recorded."""
        for agent, counts in sorted(self._bytes.items()):
            if more:
                for name, size in self.history.metrics("bytes", round, agent).items():
                    counts[name] += size
            self.history.add(Event("bytes", round, agent, dict(counts)))
            self._tracker.agent(agent, round, counts)
        self._bytes.clear()
        elapsed = time.monotonic() - self._started
        self.history.add(Event("server", round, 0, {"seconds": elapsed, "peak_bytes": float(_peak_bytes())}))

    def log_figures(self, round: int) -> None:
        """Write the network's figures of a round whose bytes are recorded to MLflow and the log."""
        agents, scores_NS = skill_scores(self.history, round, self._skills)
        figures = self._figures(round)
        if agents:
            figures |= network_figures(scores_NS)
            for agent, own in zip(agents, agent_figures(scores_NS, self._skills), strict=True):
                self._tracker.agent(agent, round, own)
        self._tracker.run(round, figures)
        log(INFO, "%s", self._progress(round, figures))
        shown = {short: figures[name] for short, name in SHOWN.items() if name in figures}
        tell(Step("figures", round=round, rounds=self._rounds, figures=shown))

    def _figures(self, round: int) -> dict[str, float]:
        """Means over agents; gains per kilobyte as in section 6.4 of the paper."""
        figures: dict[str, float] = {}
        for kind, names in (
            ("train", ("reward/local", "drift", "similarity", "staleness")),
            ("evaluate", ("accuracy/mean", "drift")),
        ):
            for name in names:
                value = self.history.mean(kind, name).get(round)
                if value is not None:
                    figures.setdefault(name, value)
        accuracies = [e.metrics["accuracy/mean"] for e in self.history.events("evaluate") if e.round == round]
        if accuracies:
            figures["accuracy/min"] = min(accuracies)
        sent = sum(self.history.total("bytes/sent", round).values()) / self._agents
        received = sum(self.history.total("bytes/received", round).values()) / self._agents
        figures |= {"bytes/sent": sent, "bytes/received": received}
        for gain, kind, name in (
            ("accuracy_per_kilobyte", "evaluate", "accuracy/mean"),
            ("reward_per_kilobyte", "train", "reward/local"),
        ):
            values = self.history.mean(kind, name)
            if sent and round in values:
                figures[gain] = (values[round] - values[min(values)]) / (sent / 1000)
        return figures

    def _progress(self, round: int, figures: Mapping[str, float]) -> str:
        parts = [f"round {round}/{self._rounds}"]
        if "reward/local" in figures:
            parts.append(f"reward {figures['reward/local']:.3f}")
        if "accuracy/mean" in figures:
            parts.append(
                f"accuracy {figures['accuracy/mean']:.3f} (lowest agent {figures['accuracy/min']:.3f})"
            )
        parts.append(f"sent {figures['bytes/sent'] / 1000:.1f} kB per agent")
        parts.append(f"{time.monotonic() - self._started:.0f} s")
        return "symphony: " + ", ".join(parts)


def _peak_bytes() -> int:
    """The largest resident size of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _checked(metrics: object) -> dict[str, float]:
    """Self-reported metrics: known shape of name, finite numbers, bounded in number."""
    if not isinstance(metrics, dict) or len(metrics) > MAX_METRICS:
        raise MessageError(f"metrics: must be an object of at most {MAX_METRICS} numbers")
    for name, value in metrics.items():
        if not METRIC_NAME.fullmatch(name) or isinstance(value, bool) or not isinstance(value, int | float):
            raise MessageError(f"metrics: {name!r:.80} = {value!r:.80}: must be a metric name and a number")
        if not abs(value) < 1e300:  # also refuses NaN
            raise MessageError(f"metrics: {name} = {value}: must be finite")
    return {name: float(value) for name, value in metrics.items()}


def _direct_bytes(metrics: Mapping[str, float], agents: int) -> dict[int, int]:
    """Sender -> bytes an agent says it got from it directly."""
    found = {name.removeprefix(DIRECT): value for name, value in metrics.items() if name.startswith(DIRECT)}
    for name, value in found.items():
        if not name.isdecimal() or len(name) > 10 or int(name) >= agents or not 0 <= value <= MAX_DIRECT:
            raise MessageError(f"metrics: {DIRECT}{name} = {value}: must be an agent's number, and bytes")
    return {int(name): int(value) for name, value in found.items()}


def _check_accuracies(metrics: Mapping[str, float], skills: Sequence[str]) -> None:
    """An evaluation is whole or refused: a missing or impossible accuracy would spoil the network's figures."""
    for name in ("accuracy/mean", *(f"accuracy/{skill}" for skill in skills)):
        value = metrics.get(name)
        if value is None or not 0 <= value <= 1:
            raise MessageError(f"metrics: {name} = {value}: must be there and in [0, 1]")


def _check_solved(solved: object) -> None:
    """Outcomes by task, of which MAX_DETAILS bounds the number."""
    if not isinstance(solved, str) or set(solved) - {"0", "1"}:
        raise MessageError(f"solved: {solved!r:.80}: must be a text of 0 and 1")
