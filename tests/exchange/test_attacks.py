"""What hostile agents of an experiment send."""

from __future__ import annotations

import numpy as np
import pytest

from symphony_fl.exchange.attacks import attack

MOVEMENT = np.random.default_rng(0).standard_normal(2000).astype(np.float32)


def sent(name: str, agent: int = 0, round: int = 1) -> np.ndarray:
    return attack(name, MOVEMENT, 10.0, seed=3, agent=agent, round=round)


def test_simple_attacks() -> None:
    assert np.array_equal(sent("none"), MOVEMENT)
    assert np.array_equal(sent("sign_flip"), -MOVEMENT)
    assert np.allclose(sent("scale"), 10 * MOVEMENT)


@pytest.mark.parametrize("name", ["random", "collude"])
def test_noise_has_the_length_asked_for_and_no_direction_of_ours(name: str) -> None:
    noise = sent(name)
    assert np.linalg.norm(noise) == pytest.approx(10 * np.linalg.norm(MOVEMENT), rel=1e-4)
    assert abs(noise @ MOVEMENT) / (np.linalg.norm(noise) * np.linalg.norm(MOVEMENT)) < 0.1


def test_colluders_agree_and_random_ones_do_not() -> None:
    assert np.array_equal(sent("collude", agent=1), sent("collude", agent=2, round=9))
    assert not np.array_equal(sent("random", agent=1), sent("random", agent=2))
    assert not np.array_equal(sent("random"), sent("random", round=2))
    assert np.array_equal(sent("random"), sent("random"))


def test_an_unknown_attack_is_refused() -> None:
    with pytest.raises(ValueError, match="attack='bribe'"):
        sent("bribe")
