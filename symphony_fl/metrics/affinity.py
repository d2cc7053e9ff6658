"""Who can do what: capability vectors, agent-task affinity, diversity of expertise (section 6.4, appendix A).

    capability of an agent     DID -> skill -> success rate with Wilson's interval
    affinity[i, s]             score[i, s] - mean over agents of score[., s]
    specialisation[i]          1 - H(P_i) / log S,  P_i = score[i] / sum of score[i]
    diversity                  (H(mean of P_i) - mean of H(P_i)) / log min(N, S)

Wilson, "Probable inference, the law of succession, and statistical inference", 1927: unlike p +- z sigma it stays in
[0, 1] and has a width even when none or all were solved. The diversity is the Jensen-Shannon divergence of all N
profiles P_i (Lin, "Divergence measures based on the Shannon entropy", 1991) over its greatest possible value: 0 when
all agents have the same profile, whatever their levels, 1 when their skills are disjoint (N <= S) or the S skills are
shared out evenly among pure specialists. An agent that solves nothing is an expert in nothing: its P_i is uniform.

N agents, S skills; scores_NS float [N, S] in [0, 1].
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from symphony_fl.learning.memory.episodes import Counts


@dataclass(frozen=True)
class Capability:
    """A success rate: ``score`` = solved / attempts, Wilson's interval [``low``, ``high``], ``attempts`` behind it."""

    score: float
    low: float
    high: float
    attempts: float


def wilson(counts: Counts, z: float = 1.96) -> Capability:
    """Success rate and its interval of ``z`` standard deviations (1.96: 95 %); without an attempt, 0.5 in [0, 1].

    Discounted counts may be given: the interval is then that of as many whole attempts.

    Raises
    ------
    ValueError
        Not 0 <= solved <= attempts, or ``z`` is not above 0.
    """
    attempts, solved = counts.attempts, counts.solved
    if not 0 <= solved <= attempts or not math.isfinite(attempts):
        raise ValueError(
            f"counts: solved = {solved} of attempts = {attempts}, must be 0 <= solved <= attempts"
        )
    if not z > 0:
        raise ValueError(f"z = {z}: must be above 0")
    if attempts == 0:
        return Capability(0.5, 0.0, 1.0, 0.0)
    rate = solved / attempts
    scale = 1 + z**2 / attempts
    middle = (rate + z**2 / (2 * attempts)) / scale
    half = z / scale * math.sqrt(rate * (1 - rate) / attempts + (z / (2 * attempts)) ** 2)
    # Rounding must not put a rate of 0 or 1 outside its own interval.
    return Capability(rate, max(0.0, min(rate, middle - half)), min(1.0, max(rate, middle + half)), attempts)


def affinity(scores_NS: np.ndarray) -> np.ndarray:
    """How much better each agent is at each skill than the population's mean, float64 [N, S], columns sum to 0."""
    _check(scores_NS)
    return np.asarray(scores_NS - scores_NS.mean(axis=0))


def specialisation(scores_NS: np.ndarray) -> np.ndarray:
    """0 for an agent equally good at everything, 1 for one good at a single skill; float64 [N]. 0 if S = 1."""
    profiles_NS = _profiles(scores_NS)
    if profiles_NS.shape[1] == 1:
        return np.zeros(len(profiles_NS))
    return np.asarray(1 - _entropy(profiles_NS) / math.log(profiles_NS.shape[1]))


def diversity(scores_NS: np.ndarray) -> float:
    """How different the agents' profiles are, in [0, 1]. 0 for one agent or one skill."""
    profiles_NS = _profiles(scores_NS)
    most = math.log(min(profiles_NS.shape))
    if most == 0:
        return 0.0
    shared = _entropy(profiles_NS.mean(axis=0, keepdims=True))[0]
    return float(np.clip((shared - _entropy(profiles_NS).mean()) / most, 0.0, 1.0))  # rounding


def _profiles(scores_NS: np.ndarray) -> np.ndarray:
    """P_i, rows that sum to 1, float64 [N, S]."""
    _check(scores_NS)
    sums_N1 = scores_NS.sum(axis=1, keepdims=True)
    uniform_NS = np.full(scores_NS.shape, 1 / scores_NS.shape[1])
    return np.asarray(np.divide(scores_NS, sums_N1, out=uniform_NS, where=sums_N1 > 0))


def _entropy(profiles_NS: np.ndarray) -> np.ndarray:
    """H of every row in nats, float64 [N]; 0 log 0 = 0."""
    logs_NS = np.log(profiles_NS, out=np.zeros_like(profiles_NS), where=profiles_NS > 0)
    return np.asarray(-(profiles_NS * logs_NS).sum(axis=1))


def _check(scores_NS: np.ndarray) -> None:
    if scores_NS.ndim != 2 or scores_NS.size == 0:
        raise ValueError(f"scores: shape {scores_NS.shape}, must be [agents, skills], at least one of each")
    if not ((scores_NS >= 0) & (scores_NS <= 1)).all():
        raise ValueError(f"scores: {scores_NS.min()} to {scores_NS.max()}, must all be in [0, 1]")
