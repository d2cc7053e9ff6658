"""What happened in a run: one line per agent and event, kept in a file so that a resumed run knows its past.

The figures a run is judged by are derived here and nowhere else.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from symphony_fl.storage.folders import private_opener

Metrics = dict[str, float]


@dataclass(frozen=True)
class Event:
    """One agent's figures of one round. `kind` is train, evaluate or bytes; server: seconds since the server's start
    and its peak_bytes of memory at the end of a round, under agent 0.

    `adapter` is the digest of the adapter the figures belong to; `solved` is a 1 or a 0 for every held-out task.
    Without a round barrier `round` is the network's, the mean over the agents, and `own` the agent's own.
    """

    kind: str
    round: int
    agent: int
    metrics: Metrics = field(default_factory=dict)
    adapter: str = ""
    solved: str = ""
    own: int = 0


class History:
    """Events by (kind, round, agent, own round); a repeated one replaces the first, as after a resume."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._events: dict[tuple[str, int, int, int], Event] = {}
        if path.exists():
            self._read()
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = open(path, "a", encoding="utf-8", opener=private_opener)

    def add(self, event: Event) -> None:
        """Remember and append to the file."""
        self._events[event.kind, event.round, event.agent, event.own] = event
        line = asdict(event) | {"at": round(time.time(), 1)}  # for `symphony status`; no figure depends on it
        self._file.write(json.dumps(line, separators=(",", ":")) + "\n")
        self._file.flush()

    def close(self) -> None:
        os.fsync(self._file.fileno())
        self._file.close()

    def events(self, kind: str) -> Iterator[Event]:
        """Events of a kind in the order of rounds and agents."""
        return (self._events[key] for key in sorted(self._events) if key[0] == kind)

    def metrics(self, kind: str, round: int, agent: int) -> Metrics:
        """Figures of one event of a run with a round barrier; empty where there is no such event."""
        event = self._events.get((kind, round, agent, 0))
        return {} if event is None else event.metrics

    def rounds(self, kind: str) -> list[int]:
        return sorted({event.round for event in self.events(kind)})

    def mean(self, kind: str, metric: str) -> dict[int, float]:
        """Round -> mean over the reports of it that have the metric."""
        values: dict[int, list[float]] = defaultdict(list)
        for event in self.events(kind):
            if metric in event.metrics:
                values[event.round].append(event.metrics[metric])
        return {number: sum(found) / len(found) for number, found in sorted(values.items())}

    def total(self, metric: str, up_to: int | None = None) -> dict[int, float]:
        """Agent -> sum of a metric of the `bytes` events over the rounds up to `up_to`."""
        sums: dict[int, float] = defaultdict(float)
        for event in self.events("bytes"):
            if up_to is None or event.round <= up_to:
                sums[event.agent] += event.metrics.get(metric, 0.0)
        return dict(sums)

    def refused(self) -> dict[str, int]:
        """Name of the refusal -> envelopes refused for it, over all agents and rounds."""
        return self._counted("refused/")

    def fallback(self) -> dict[str, int]:
        """Why mail went by the mailbox that was to go directly -> edges, over all agents and rounds."""
        return self._counted("fallback/")

    def _counted(self, prefix: str) -> dict[str, int]:
        """Rest of a metric's name -> its sum over all agents and rounds."""
        sums: dict[str, int] = defaultdict(int)
        for kind in ("train", "evaluate", "bytes"):  # the server's own counts are recorded with the bytes
            for event in self.events(kind):
                for name, value in event.metrics.items():
                    if name.startswith(prefix):
                        sums[name.removeprefix(prefix)] += int(value)
        return dict(sorted(sums.items()))

    def own_rounds(self) -> dict[int, dict[int, float]]:
        """Agent -> its own recorded rounds -> when, by the run's clock (only without a round barrier)."""
        found: dict[int, dict[int, float]] = defaultdict(dict)
        for event in self.events("train"):
            if event.own:
                found[event.agent].setdefault(event.own, event.metrics["clock"])
        return dict(found)

    def summary(self, agents: int) -> dict[str, Any]:
        """The figures of the run: accuracies are means over all agents of the mean over all skills.

        `bytes_*_per_agent` are means over the run's agents, counted on the envelopes (FedAvg: on the arrays).
        """
        accuracy = self.mean("evaluate", "accuracy/mean")
        last = max(accuracy, default=None)
        final = [event for event in self.events("evaluate") if event.round == last]
        trained = self.rounds("train")
        own = self.own_rounds()
        pace = {
            "clock_seconds": max(max(times.values()) for times in own.values()),
            "own_rounds": {str(agent): max(times) for agent, times in sorted(own.items())},
        } if own else {}  # fmt: skip
        return {
            "accuracy_before": accuracy.get(0),
            "accuracy_after": None if last is None else accuracy[last],
            "accuracy_min_agent": min((event.metrics["accuracy/mean"] for event in final), default=None),
            "bytes_sent_per_agent": sum(self.total("bytes/sent").values()) / agents,
            "bytes_received_per_agent": sum(self.total("bytes/received").values()) / agents,
            "rounds": trained[-1] if trained else 0,
            "bytes_superlink_per_agent": sum(self.total("bytes/superlink").values()) / agents,
            "refused": self.refused(),
            "fallback": self.fallback(),
            "adapter_digests": {str(event.agent): event.adapter for event in final},
            "paired": self._paired(final),
        } | pace

    def _paired(self, final: Sequence[Event]) -> dict[str, dict[str, float]]:
        """Agent -> held-out tasks it gained and lost since before the first round, and how likely by chance."""
        first = {event.agent: event.solved for event in self.events("evaluate") if event.round == 0}
        return {
            str(event.agent): mcnemar(first[event.agent], event.solved)
            for event in final
            if event.round and first.get(event.agent) and len(first[event.agent]) == len(event.solved)
        }

    def _read(self) -> None:
        """Read back what was written; a last line cut short by a kill is dropped, and overwritten cleanly."""
        text = self.path.read_text(encoding="utf-8")
        whole = text[: text.rfind("\n") + 1]
        for line in whole.splitlines():
            values: dict[str, Any] = json.loads(line)
            values.pop("at", None)
            event = Event(**values)
            self._events[event.kind, event.round, event.agent, event.own] = event
        if whole != text:  # in place: what is whole is never out of the file
            os.truncate(self.path, len(whole.encode("utf-8")))


def mcnemar(before: str, after: str) -> dict[str, float]:
    """The exact two-sided test of McNemar (1947) on paired outcomes, a 1 or a 0 per task in the same order.

    Returns `gained` (0, then 1), `lost` (1, then 0), and `p_value`: how likely a split at least so uneven of
    gained + lost fair coins is.
    """
    pairs = list(zip(before, after, strict=True))
    gained, lost = pairs.count(("0", "1")), pairs.count(("1", "0"))
    changed = gained + lost
    tail = sum(math.comb(changed, k) for k in range(min(gained, lost) + 1))
    return {"gained": gained, "lost": lost, "p_value": min(1.0, 2 * tail / 2**changed)}
