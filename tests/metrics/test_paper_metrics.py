"""Each metric of section 6.4 against an answer computed by hand."""

from __future__ import annotations

import numpy as np
import pytest

from symphony_fl.learning.skills import Task
from symphony_fl.metrics.paper_metrics import (
    accuracy_by_level,
    collaboration,
    completion,
    cosine,
    cosine_matrix,
    gain_per_kilobyte,
    mean_off_diagonal,
    over_samples,
    samples_to_share,
    worst_drop,
)


def test_accuracy_by_level_counts_every_agents_tasks() -> None:
    tasks = [Task("sort", str(level), "", level) for level in (2, 1, 2, 2)]
    # Level 1: agent 0 fails, agent 1 solves. Level 2: 2 of 3 and 1 of 3.
    assert accuracy_by_level(tasks, ["1010", "0110"]) == {1: 0.5, 2: 0.5}
    assert list(accuracy_by_level(tasks, ["1111"])) == [1, 2]


def test_outcomes_of_other_tasks_are_refused() -> None:
    with pytest.raises(ValueError, match=r"solved\[0\]: has 1 marks, must have one per task, 2"):
        accuracy_by_level([Task("sort", "a", "a"), Task("sort", "b", "b")], ["1"])


def test_cosine() -> None:
    assert cosine(np.array([3.0, 4.0]), np.array([4.0, 3.0])) == pytest.approx(0.96)
    assert cosine(np.array([1.0, 0.0]), np.array([-2.0, 0.0])) == -1.0
    assert cosine(np.zeros(2), np.ones(2)) is None


def test_cosine_matrix_and_its_mean_over_pairs() -> None:
    matrix_NN = cosine_matrix(np.array([[1.0, 0.0], [0.0, 2.0], [3.0, 4.0], [0.0, 0.0]]))
    assert matrix_NN[:3, :3] == pytest.approx(np.array([[1, 0, 0.6], [0, 1, 0.8], [0.6, 0.8, 1]]))
    assert np.isnan(matrix_NN[3]).all() and np.isnan(matrix_NN[:, 3]).all()
    assert mean_off_diagonal(matrix_NN) == pytest.approx(1.4 / 3)
    assert mean_off_diagonal(np.ones((1, 1))) is None


def test_completion() -> None:
    assert completion(3, 4) == 0.75
    assert completion(0, 0) is None
    with pytest.raises(ValueError, match="done = 5 of meant = 4"):
        completion(5, 4)


def test_collaboration_and_gain_per_kilobyte() -> None:
    assert collaboration(0.9, 0.5) == pytest.approx(0.4)
    assert gain_per_kilobyte(0.3, 0.9, 20_000) == pytest.approx(0.03)
    assert gain_per_kilobyte(0.3, 0.9, 0) is None


def test_convergence_is_read_off_straight_lines() -> None:
    curve = [(0, 0.2), (100, 0.6), (200, 0.7), (300, 0.6)]
    assert samples_to_share(curve, 1.0) == 100  # the final gain, 0.4, is there at the second evaluation
    assert samples_to_share(curve, 0.5) == pytest.approx(50)
    assert samples_to_share([(0, 0.5), (10, 0.4)], 0.95) is None


def test_worst_drop() -> None:
    assert worst_drop([(0, 0.2), (1, 0.8), (2, 0.5), (3, 0.9), (4, 0.7)]) == pytest.approx(0.3)
    assert worst_drop([(0, 0.2), (1, 0.3)]) == 0.0


def test_rounds_become_samples() -> None:
    assert over_samples({2: 0.5, 0: 0.1}, 64) == [(0, 0.1), (128, 0.5)]
