"""What a hostile agent sends in experiments on robustness; its envelope is well-formed and rightly signed.

Every attack maps the movement an honest agent would tell of to another vector:

 - sign_flip: the opposite.
 - scale: `strength` times as much.
 - random: Gaussian noise of `strength` times its length, fresh every round.
 - collude: one direction common to all hostile agents and rounds, of `strength` times its length.

Li et al., "RSA: Byzantine-Robust Stochastic Aggregation Methods", AAAI 2019; Karimireddy, He and Jaggi,
"Byzantine-Robust Learning on Heterogeneous Datasets via Bucketing", ICLR 2022.
"""

from __future__ import annotations

import numpy as np

ATTACKS = ("none", "sign_flip", "scale", "random", "collude")
"""Every attack by its short name."""


def attack(name: str, movement: np.ndarray, strength: float, seed: int, agent: int, round: int) -> np.ndarray:
    """The vector sent in place of `movement`, float32 [P] both.

    Parameters
    ----------
    name : one of `ATTACKS`.
    strength : above 0; not used by sign_flip.
    seed : of the run.
    agent, round : the sender's.

    Raises
    ------
    ValueError
        An unknown name.
    """
    if name not in ATTACKS:
        raise ValueError(f"attack={name!r}: must be one of {', '.join(ATTACKS)}")
    if name == "none":
        return movement
    if name == "sign_flip":
        return -movement
    if name == "scale":
        return np.float32(strength) * movement
    stream = [seed, 0] if name == "collude" else [seed, 1, agent, round]
    noise = np.random.default_rng(stream).standard_normal(movement.size, dtype=np.float32)
    length = strength * float(np.linalg.norm(movement)) / float(np.linalg.norm(noise))
    return noise * np.float32(length)
