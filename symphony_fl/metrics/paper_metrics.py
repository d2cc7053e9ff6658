"""The paper's key evaluation metrics (section 6.4) that are not defined elsewhere, each as one pure function.

    Task Accuracy and Generalization   accuracy_by_level; held-out, harder and unseen: `clients/agents/evaluation.py`
    Skill Specialization               `metrics/affinity.py`
    Parameter Similarity               cosine (successive updates of one agent: its smoothness), cosine_matrix
    Interaction Success                completion, collaboration
    Bandwidth Efficiency               gain_per_kilobyte
    Stability                          samples_to_share, worst_drop; over seeds: `experiment/statistics.py`

Accuracies and rewards lie in [0, 1]; bytes are those counted on envelopes, per agent.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from symphony_fl.learning.skills import Task

Curve = Sequence[tuple[float, float]]
"""(x, y) in the order of x: x is samples, bytes or rounds."""


def accuracy_by_level(tasks: Sequence[Task], solved: Sequence[str]) -> dict[int, float]:
    """Difficulty -> share of the held-out tasks of that difficulty that were solved, over all agents.

        a[d] = sum over agents i and tasks t of difficulty d of solved[i, t]  /  (N x tasks of difficulty d)

    `solved` has for each of the N agents a text of 1 and 0, one per task.

    Raises
    ------
    ValueError
        A text has not one mark per task.
    """
    counts: dict[int, list[int]] = defaultdict(list)
    for number, marks in enumerate(solved):
        if len(marks) != len(tasks):
            raise ValueError(
                f"solved[{number}]: has {len(marks)} marks, must have one per task, {len(tasks)}"
            )
        for task, mark in zip(tasks, marks, strict=True):
            counts[task.difficulty].append(int(mark))
    return {level: sum(found) / len(found) for level, found in sorted(counts.items())}


def cosine(a: np.ndarray, b: np.ndarray) -> float | None:
    """a . b / (|a| |b|) of two vectors [P], in [-1, 1]; None where one of them is 0 and has no direction."""
    first, second = a.astype(np.float64), b.astype(np.float64)
    norms = float(np.linalg.norm(first) * np.linalg.norm(second))
    if norms == 0.0:
        return None
    return float(np.clip(first @ second / norms, -1.0, 1.0))


def cosine_matrix(vectors_NP: np.ndarray) -> np.ndarray:
    """Cosines between the rows, float64 [N, N] with a diagonal of 1; NaN in rows and columns of vectors that are 0."""
    rows_NP = vectors_NP.astype(np.float64)
    norms_N1 = np.linalg.norm(rows_NP, axis=1, keepdims=True)
    unit_NP = np.divide(rows_NP, norms_N1, out=np.full_like(rows_NP, np.nan), where=norms_N1 > 0)
    return np.asarray(np.clip(unit_NP @ unit_NP.T, -1.0, 1.0))


def mean_off_diagonal(matrix_NN: np.ndarray) -> float | None:
    """Mean over the pairs of different agents that have a cosine; None if there is none."""
    pairs = matrix_NN[~np.eye(len(matrix_NN), dtype=bool)]
    known = pairs[~np.isnan(pairs)]
    return float(known.mean()) if known.size else None


def completion(done: float, meant: float) -> float | None:
    """done / meant, in [0, 1]: of the updates meant for an agent, those it merged (once each); of an agent's rounds,
    those it reported. None where nothing was meant."""
    if not 0 <= done <= meant:
        raise ValueError(f"done = {done:g} of meant = {meant:g}: must be 0 <= done <= meant")
    return done / meant if meant else None


def collaboration(accuracy: float, alone: float) -> float:
    """Quality of collaboration: accuracy with the others less that of the same agents alone, on as many samples of
    the same seed. Above 0: they taught each other."""
    return accuracy - alone


def gain_per_kilobyte(before: float, after: float, sent: float) -> float | None:
    """(after - before) / kilobytes of synchronised parameter updates an agent sent (1 kB = 1,000 bytes); None where
    nothing was sent."""
    return (after - before) / (sent / 1000) if sent else None


def samples_to_share(curve: Curve, share: float) -> float | None:
    """Convergence: the samples at which the gain first is `share` of the final one, by straight lines between
    evaluations. None where nothing was gained."""
    first, last = curve[0][1], curve[-1][1]
    if last <= first:
        return None
    level = first + share * (last - first)
    for (x0, y0), (x1, y1) in itertools.pairwise(curve):
        if y1 >= level:
            return x1 if y1 == y0 else x0 + (level - y0) / (y1 - y0) * (x1 - x0)
    return curve[-1][0]


def worst_drop(curve: Curve) -> float:
    """The largest fall below an earlier value, at least 0: max over s < t of y[s] - y[t]."""
    best, worst = curve[0][1], 0.0
    for _, value in curve:
        best = max(best, value)
        worst = max(worst, best - value)
    return worst


def over_samples(values: Mapping[int, float], per_round: float) -> list[tuple[float, float]]:
    """Round -> value as a curve over samples of the whole network."""
    return [(number * per_round, value) for number, value in sorted(values.items())]
