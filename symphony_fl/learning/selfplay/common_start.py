"""theta_0 of a run of self-play: the initial adapter after the bootstrap, the same on every agent.

A sparse exchange restarts every agent from theta_0 and the changes that travelled. What an agent learnt by itself
before the first exchange is lost then: with the bootstrap inside round 1, all rewards of round 2 were 0. So the
bootstrap is part of theta_0. It depends on nothing that differs between the agents of a run, and is built once per
machine.

The build is deterministic on one machine. Another processor may round differently. Then theta_0 differs, and so does
its digest, by which servers and neighbours refuse the agent by name.
"""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path

import numpy as np

from symphony_fl.learning.model.adapters import Policy
from symphony_fl.learning.model.model_cache import build_once, models_folder
from symphony_fl.learning.model.warm_start import one_thread
from symphony_fl.learning.rl.grpo_settings import GRPOSettings
from symphony_fl.learning.rl.policy_gradient import PolicyGradient
from symphony_fl.learning.selfplay.bootstrap import Bootstrap

logger = logging.getLogger(__name__)

VERSION = 1  # raise when the bootstrap's steps, a skill's questions or its form of proposals change
_FILE = "adapter.npy"
_SETTINGS = ("betas", "weight_decay", "max_grad_norm", "max_new_tokens", "temperature")


def common_start(
    policy: Policy,
    seed: int,
    bootstrap: Bootstrap,
    settings: GRPOSettings,
    name: str = "start",
    cache: Path | None = None,
) -> np.ndarray:
    """theta_0, float32 [P]: `Policy.initial` and then the bootstrap; from the cache where it was built before.

    Parameters
    ----------
    policy
        A build trains the adapter in it, in place; what was in it is back afterwards.
    seed
        The run's.
    settings
        How the bootstrap's optimizer and sampling are set; these are part of the digest.
    name
        What its folder's name begins with; a digest follows.
    cache
        The folder of built models, default `models_folder`.

    Raises
    ------
    ValueError
        What the cache holds is no such adapter.
    """
    initial = policy.initial(seed)  # draws what stays frozen, too

    def build(folder: Path) -> None:
        logger.warning("teaching the form of a proposal once, for all agents, into %s", folder.parent)
        before = policy.get()
        policy.set(initial)
        try:
            with one_thread():
                bootstrap.teach(PolicyGradient(policy, settings))
            np.save(folder / _FILE, policy.get(), allow_pickle=False)
        finally:
            policy.set(before)

    digest = start_digest(policy, initial, bootstrap, settings)
    folder = build_once(models_folder() if cache is None else cache, f"{name}-{digest}", build)
    start: np.ndarray = np.load(folder / _FILE, allow_pickle=False)
    if start.dtype != np.float32 or start.shape != initial.shape or not np.isfinite(start).all():
        raise ValueError(
            f"{folder / _FILE}: {start.dtype} {list(start.shape)}, must be finite float32 {list(initial.shape)}; "
            "remove the folder to have it built anew"
        )
    return start


def start_digest(policy: Policy, initial: np.ndarray, bootstrap: Bootstrap, settings: GRPOSettings) -> str:
    """24 hexadecimal digits over everything that theta_0 depends on but the processor's rounding."""
    recipe = {
        "version": VERSION,
        "base": policy.base.digest.hex(),
        "layout": policy.layout.digest.hex(),
        "adapter": [policy.kind, policy.alpha, hashlib.sha256(initial.tobytes()).hexdigest()],
        "skills": [[skill.name, list(skill.difficulties)] for skill in bootstrap.skills],
        "bootstrap": [bootstrap.steps, bootstrap.batch, bootstrap.seed, bootstrap.free, bootstrap.rate],
        "settings": {name: getattr(settings, name) for name in _SETTINGS},
    }
    return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:24]
