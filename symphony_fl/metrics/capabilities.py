"""Who can do what in a run, from the accuracies its agents report on evaluation rounds (section 6.4, appendix A).

The formulas are those of `metrics/affinity.py`, applied here to a run's history. All agents answer the same held-out
tasks, ``held_out`` of each skill, so agents with the same adapter differ in nothing. Agents that are equally good but
err on different tasks do differ. By chance alone, 4 agents have a diversity of about 0.01 over 10 skills of 30 tasks
that they solve half the time. It is 0.03 where they solve a fifth, and 0.08 with 4 tasks of each skill.

N agents that were evaluated, S skills of the run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from symphony_fl.learning.memory.episodes import Counts
from symphony_fl.metrics.affinity import Capability, affinity, diversity, specialisation, wilson
from symphony_fl.metrics.history import History


def skill_scores(history: History, round: int, skills: Sequence[str]) -> tuple[list[int], np.ndarray]:
    """(agent numbers, scores_NS float64 [N, S]) of those evaluated in a round, by number; N = 0 if none was.

    Raises
    ------
    ValueError
        An agent's report lacks a skill.
    """
    events = [event for event in history.events("evaluate") if event.round == round]
    names = [f"accuracy/{skill}" for skill in skills]
    for event in events:
        missing = [name for name in names if name not in event.metrics]
        if missing:
            raise ValueError(
                f"evaluation of agent {event.agent} in round {round}: lacks {', '.join(missing)}; "
                "must have every skill of the run"
            )
    scores = [[event.metrics[name] for name in names] for event in events]
    return [event.agent for event in events], np.array(scores, np.float64).reshape(len(events), len(names))


def network_figures(scores_NS: np.ndarray) -> dict[str, float]:
    """The network's metrics: how different its agents are, and how specialised and apart they are on average."""
    return {
        "diversity": diversity(scores_NS),
        "specialisation": float(specialisation(scores_NS).mean()),
        # The plain mean is 0 whatever the agents can do.
        "affinity/mean_abs": float(np.abs(affinity(scores_NS)).mean()),
    }


def agent_figures(scores_NS: np.ndarray, skills: Sequence[str]) -> list[dict[str, float]]:
    """The metrics of each of the N agents: its specialisation, its affinity with every skill."""
    rows = zip(specialisation(scores_NS).tolist(), affinity(scores_NS).tolist(), strict=True)
    return [
        {"specialisation": own} | {f"affinity/{skill}": one for skill, one in zip(skills, row, strict=True)}
        for own, row in rows
    ]


def capability_vectors(
    history: History, round: int, skills: Sequence[str], held_out: int
) -> dict[int, dict[str, Capability]]:
    """Agent -> skill -> capability in a round, with the 95 % interval of ``held_out`` attempts.

    Where a skill gives part of a reward for part of an answer the interval is wider than it need be: no score in
    [0, 1] varies more than one that is always 0 or 1.

    Raises
    ------
    ValueError
        An agent's report lacks a skill, or holds an accuracy outside [0, 1].
    """
    agents, scores_NS = skill_scores(history, round, skills)
    return {
        agent: {
            skill: wilson(Counts(held_out, score * held_out))
            for skill, score in zip(skills, row, strict=True)
        }
        for agent, row in zip(agents, scores_NS.tolist(), strict=True)
    }


def by_did(
    vectors: Mapping[int, Mapping[str, Capability]], dids: Mapping[int, str]
) -> dict[str, dict[str, dict[str, Any]]]:
    """did:key -> skill -> {score, low, high, attempts}: the vectors as they are published, ready for JSON.

    Raises
    ------
    ValueError
        An agent has no did:key, or two have the same.
    """
    named: dict[str, dict[str, dict[str, Any]]] = {}
    for agent, vector in vectors.items():
        did = dids.get(agent)
        if did is None or did in named:
            raise ValueError(f"did:key of agent {agent} = {did!r}: must be known and its own")
        named[did] = {skill: asdict(capability) for skill, capability in vector.items()}
    return named
