"""What was not sent is kept: nothing is lost."""

from __future__ import annotations

import numpy as np
import pytest
from gossip_network import F

from symphony_fl.exchange.codecs.codec import build_codec
from symphony_fl.exchange.fixed_point import UNIT, Feedback, to_grid
from symphony_fl.exchange.flat import Layout
from symphony_fl.exchange.rules import build_rule
from symphony_fl.exchange.selection.selection import build_selection


@pytest.mark.parametrize("coding", ["sign", "int2", "int4", "bfloat16"])
def test_error_feedback_loses_nothing(coding: str) -> None:
    """Sum of sent + residual = sum of changes, exactly, in float64."""
    rng = np.random.default_rng(5)
    codec, feedback = build_codec(coding, 16), Feedback(100)
    changes = np.zeros(100)
    sent = np.zeros(100)
    for _ in range(200):
        change = rng.standard_normal(100).astype(F)
        owed = feedback.offer(change)
        indices = np.sort(np.argsort(-np.abs(owed))[:10])
        decoded = codec.decode(codec.encode(owed[indices]), 10)
        sent[indices] += feedback.sent(change, indices, decoded) * UNIT
        changes += to_grid(change) * UNIT
    assert np.array_equal(sent + feedback.residual * UNIT, changes)
    assert np.abs(feedback.residual).max() * UNIT < 50  # it stays bounded: everything is sent in the end


@pytest.mark.parametrize("name", ["delta", "epidemic"])
def test_rules_with_error_feedback_send_everything_in_the_end(name: str) -> None:
    size = 50
    rule = build_rule(name, size, agents=1, combine="agents")
    selection = build_selection("topk", Layout(("a",), ((size,),)), 0.1)
    theta = rule.start(np.zeros(size, dtype=F))
    goal = np.linspace(0.5, 1, size).astype(F)
    learned = (theta + goal).astype(F)
    total = np.zeros(size)
    for round in range(1, 30):
        offer = rule.offer(learned)
        indices = selection.select(offer.score, round)
        rule.record(learned, indices, offer.values[indices], round)
        total[indices] += offer.values[indices]
        learned = rule.start(learned)
    assert np.allclose(total, goal)
    assert not rule.state["residual"].any()
