"""From reported accuracies to capability vectors and figures, against hand-computed ones, out of real history files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from symphony_fl.learning.memory.episodes import Counts
from symphony_fl.metrics.affinity import wilson
from symphony_fl.metrics.capabilities import (
    agent_figures,
    by_did,
    capability_vectors,
    network_figures,
    skill_scores,
)
from symphony_fl.metrics.history import Event, History

SKILLS = ("sort", "add")


def _history(path: Path) -> History:
    """Two agents, equal in round 0; in round 5 agent 10 sorts only and agent 2 adds only."""
    history = History(path)
    for agent in (10, 2):
        history.add(Event("evaluate", 0, agent, {"accuracy/sort": 0.25, "accuracy/add": 0.5}))
    for agent, sort, add in ((10, 0.75, 0.0), (2, 0.0, 0.25)):
        figures = {"accuracy/sort": sort, "accuracy/add": add, "accuracy/mean": 0.9, "accuracy/max": 0.4}
        history.add(Event("evaluate", 5, agent, figures))
        history.add(Event("train", 5, agent, {"reward/sort": 0.1}))
    return history


def test_scores_are_those_of_the_round_by_number_and_skill(tmp_path: Path) -> None:
    history = _history(tmp_path / "history.jsonl")
    agents, scores_NS = skill_scores(history, 5, SKILLS)
    assert agents == [2, 10]
    assert scores_NS.tolist() == [[0.0, 0.25], [0.75, 0.0]]
    agents, scores_NS = skill_scores(history, 1, SKILLS)
    assert agents == [] and scores_NS.shape == (0, 2)


def test_a_report_without_a_skill_is_named(tmp_path: Path) -> None:
    history = _history(tmp_path / "history.jsonl")
    with pytest.raises(ValueError, match="agent 2 in round 0: lacks accuracy/reverse;"):
        skill_scores(history, 0, ("sort", "reverse"))


def test_figures_by_hand(tmp_path: Path) -> None:
    history = _history(tmp_path / "history.jsonl")
    same = network_figures(skill_scores(history, 0, SKILLS)[1])
    third = 1 / 3  # both profiles are (1/3, 2/3)
    entropy = -(third * np.log(third) + 2 * third * np.log(2 * third)) / np.log(2)
    assert same == pytest.approx(
        {"diversity": 0.0, "specialisation": 1 - entropy, "affinity/mean_abs": 0.0}, abs=1e-12
    )
    _, scores_NS = skill_scores(history, 5, SKILLS)
    # |0.375| twice and |0.125| twice.
    apart = {"diversity": 1.0, "specialisation": 1.0, "affinity/mean_abs": 0.25}
    assert network_figures(scores_NS) == pytest.approx(apart)
    first, second = agent_figures(scores_NS, SKILLS)
    assert first == {"specialisation": 1.0, "affinity/sort": -0.375, "affinity/add": 0.125}
    assert second == {"specialisation": 1.0, "affinity/sort": 0.375, "affinity/add": -0.125}


def test_capabilities_outlive_json_and_a_resume(tmp_path: Path) -> None:
    history = _history(tmp_path / "history.jsonl")
    dids = {2: "did:key:zTwo", 10: "did:key:zTen"}
    published = by_did(capability_vectors(history, 5, SKILLS, 4), dids)
    history.close()
    again = History(tmp_path / "history.jsonl")
    assert json.loads(json.dumps(published)) == by_did(capability_vectors(again, 5, SKILLS, 4), dids)
    three = wilson(Counts(4, 3))
    assert published["did:key:zTen"]["sort"] == {
        "score": 0.75,
        "low": three.low,
        "high": three.high,
        "attempts": 4,
    }
    assert published["did:key:zTwo"]["sort"]["score"] == published["did:key:zTwo"]["sort"]["low"] == 0.0
    assert 0 < published["did:key:zTwo"]["sort"]["high"] < 1
    assert list(published["did:key:zTwo"]) == list(SKILLS)


@pytest.mark.parametrize("dids", [{2: "did:key:zTwo"}, {2: "did:key:zTwo", 10: "did:key:zTwo"}])
def test_every_agent_needs_a_did_of_its_own(tmp_path: Path, dids: dict[int, str]) -> None:
    vectors = capability_vectors(_history(tmp_path / "history.jsonl"), 5, SKILLS, 4)
    with pytest.raises(ValueError, match="did:key of agent 10 = "):
        by_did(vectors, dids)


@given(st.integers(1, 500), st.data())
def test_every_accuracy_an_agent_can_report_has_a_capability(
    tmp_path_factory: pytest.TempPathFactory, held_out: int, data: st.DataObject
) -> None:
    """Counts of solved tasks, and partial rewards: products of floats must not leave [0, held_out]."""
    accuracy = data.draw(
        st.one_of(st.floats(0, 1), st.integers(0, held_out).map(lambda count: count / held_out))
    )
    history = History(tmp_path_factory.mktemp("run") / "history.jsonl")
    history.add(Event("evaluate", 3, 0, {"accuracy/sort": accuracy}))
    history.close()
    found = capability_vectors(history, 3, ["sort"], held_out)[0]["sort"]
    assert found.score == pytest.approx(accuracy) and found.attempts == held_out
    assert 0 <= found.low <= found.score <= found.high <= 1
