"""Every rule: restarts and refusals."""

from __future__ import annotations

import numpy as np
import pytest
from gossip_network import F

from symphony_fl.exchange.rules import RULES, build_rule
from symphony_fl.exchange.rules.rule import MergeError, Received, Rule


@pytest.mark.parametrize("robust", ["none", "clip", "median"])
@pytest.mark.parametrize("name", sorted(RULES))
def test_a_restart_after_any_call_changes_nothing(name: str, robust: str) -> None:
    if (name, robust) in {("choco", "clip"), ("choco", "median")}:
        with pytest.raises(MergeError):
            build_rule(name, 12, robust=robust)
        return

    def life(restart: bool) -> bytes:
        rule = build_rule(name, 12, agents=3, robust=robust, momentum=0.5)
        theta = np.zeros(12, dtype=F)
        rng = np.random.default_rng(9)

        def again(rule: Rule) -> Rule:
            if not restart:
                return rule
            fresh = build_rule(name, 12, agents=3, robust=robust, momentum=0.5)
            fresh.load_state({key: np.array(array) for key, array in rule.state.items()})
            return fresh

        for round in range(1, 6):
            theta = (rule.start(theta) + rng.standard_normal(12).astype(F)).astype(F)
            rule = again(rule)
            indices = np.sort(rng.permutation(12)[:5])
            offer = rule.offer(theta)
            theta = rule.record(theta, indices, offer.values[indices], round)
            rule = again(rule)
            mail = [Received(j, 0.3, round, indices, rng.standard_normal(5).astype(F)) for j in (1, 2)]
            theta = rule.merge(theta, mail[: 1 + round % 2], round)
            rule = again(rule)
        return rule.start(theta).tobytes()

    assert life(True) == life(False)
    rule = build_rule(name, 12, robust=robust)
    with pytest.raises(MergeError):
        rule.load_state({})


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("averag", {}, "average"),
        ("average", {"robust": "clipp"}, "clip"),
        ("delta", {"scaling": "mean"}, "mixing"),
        ("delta", {"momentum": 1.0}, "momentum"),
        ("choco", {"gamma": 0.0}, "gamma"),
        ("epidemic", {"combine": "best"}, "senders"),
        ("epidemic", {"robust": "clip", "clip": 0.0}, "clip"),
        ("epidemic", {"hops": 40}, "hops"),
        ("epidemic", {"eta": -1.0}, "eta"),
        ("noloco", {"pull": 0.0}, "pull"),
        ("average", {"robust": "trimmed", "trim": 0.5}, "trim"),
    ],
)
def test_wrong_arguments_are_refused(name: str, options: dict, words: str) -> None:
    with pytest.raises(MergeError, match=words):
        build_rule(name, 5, **options)
