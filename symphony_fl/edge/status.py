"""`symphony status`: how a device is, by its agent process's own word, and how a run is, by the books of its server.

A device's word is asked for over its socket; a run's agents, their skills, bytes, versions and when the server last
heard of them are read from the run's folder. Nothing here talks to Flower.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from symphony_fl.edge.device import health
from symphony_fl.edge.refused_runs import read_refused_runs
from symphony_fl.storage.private import EdgeError

BEST = 3  # skills shown of an agent


@dataclass
class AgentStatus:
    """What the server's books say of one agent. seen: Unix time, 0 for never; skills: accuracy when last evaluated."""

    agent: int
    did: str = ""
    version: str = ""
    round: int = 0
    seen: float = 0.0
    sent: float = 0.0
    received: float = 0.0
    refused: int = 0
    skills: dict[str, float] = field(default_factory=dict)


def device_status(folder: Path) -> dict[str, Any]:
    """The agent process's word, and how many messages of runs the device refused.

    Raises
    ------
    EdgeError
        It does not answer.
    """
    word = health(folder)
    if word is None:
        raise EdgeError(f"{folder}: no agent process answers; start it by: symphony up")
    refused = read_refused_runs(folder)
    return word | ({"refused_runs": refused} if refused else {})


def run_status(folder: Path) -> list[AgentStatus]:
    """Every agent of the run in `folder`, by number; running, stopped or done.

    Raises
    ------
    EdgeError
        The folder holds no run that has begun.
    """
    try:
        lines = (folder / "history.jsonl").read_text().splitlines()
    except OSError as error:
        raise EdgeError(f"{folder}: no run that has begun ({error.strerror})") from None
    file = folder / "agents.json"
    who = json.loads(file.read_text()) if file.exists() else {}
    agents = {
        int(number): AgentStatus(int(number), facts["did"], facts["version"]) for number, facts in who.items()
    }
    events: dict[tuple[str, int, int, int], dict[str, Any]] = {}
    for line in lines:
        try:
            event = json.loads(line)
        except json.JSONDecodeError:
            continue  # the last line, while it is being written
        events[event["kind"], event["round"], event["agent"], event.get("own", 0)] = (
            event  # repeated after a resume
        )
    for event in events.values():
        if event["agent"] not in agents:
            agents[event["agent"]] = AgentStatus(event["agent"])
        _book(agents[event["agent"]], event)
    return [agents[number] for number in sorted(agents)]


def newest_run(runs: Path) -> Path:
    """The run that was last written to.

    Raises
    ------
    EdgeError
        There is none.
    """
    found = [path.parent for path in runs.glob("*/history.jsonl")]
    if not found:
        raise EdgeError(f"{runs}: holds no run yet")
    return max(found, key=lambda folder: (folder / "history.jsonl").stat().st_mtime)


def device_lines(word: dict[str, Any]) -> str:
    """The agent process's word, for a terminal."""
    rows = [(name.replace("_", " "), value) for name, value in word.items()]
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"  {name:<{width}}  {_shown(value)}" for name, value in rows)


def run_table(agents: Sequence[AgentStatus], now: float) -> str:
    """One line per agent, for a terminal."""
    head = (
        "agent",
        "did",
        "version",
        "round",
        "last seen",
        "kB sent",
        "kB received",
        "refused",
        "best skills",
    )
    lines = [head]
    for one in agents:
        best = sorted(one.skills, key=lambda skill: -one.skills[skill])[:BEST]
        lines.append(
            (
                str(one.agent),
                f"...{one.did[-8:]}" if one.did else "-",
                one.version or "-",
                str(one.round),
                f"{now - one.seen:.0f} s ago" if one.seen else "never",
                f"{one.sent / 1000:.1f}",
                f"{one.received / 1000:.1f}",
                str(one.refused),
                ", ".join(f"{skill} {one.skills[skill]:.2f}" for skill in best) or "-",
            )
        )
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join(
        "  " + "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def _book(agent: AgentStatus, event: dict[str, Any]) -> None:
    metrics: dict[str, float] = event["metrics"]
    agent.refused += sum(int(value) for name, value in metrics.items() if name.startswith("refused/"))
    if event["kind"] == "bytes":
        agent.sent += metrics.get("bytes/sent", 0.0)
        agent.received += metrics.get("bytes/received", 0.0)
        return
    agent.round = max(agent.round, event.get("own", 0) or event["round"])
    agent.seen = max(agent.seen, float(event.get("at", 0.0)))
    if event["kind"] == "evaluate":
        agent.skills = {
            name.removeprefix("accuracy/"): value
            for name, value in metrics.items()
            if name.startswith("accuracy/") and name not in ("accuracy/mean", "accuracy/own", "accuracy/min")
        }


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {count}" for name, count in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
