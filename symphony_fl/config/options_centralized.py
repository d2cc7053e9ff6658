"""Keys of a recipe about one trainer and its rollout workers (section 6.2; `centralized.py`)."""

from __future__ import annotations

from dataclasses import dataclass

from symphony_fl.config.option import option


@dataclass
class CentralizedOptions:
    lag: int = option(
        0,
        "steps between the weights that generate and those that are trained, at least; 0: one after the other",
        low=0,
        high=32,
    )
    slack: int = option(
        2,
        "rollouts are refused of weights more steps older than this than they need be, by lag and by the depth of the "
        "tree; the more, the more weights a worker may choose among. Where bandwidth makes weights older, allow for it",
        low=0,
        high=64,
    )
    parts: int = option(
        4, "shares into which a step's tasks are dealt out, each generated as one batch", low=1, high=4096
    )
    fanout: int = option(
        0,
        "workers to which each hands the weights on, beginning with the trainer; 0: the trainer to all",
        low=0,
    )
    send: str = option(
        "weights",
        "weights: all of them, of the newest step; changes: what exchange.selection chooses of the distance to the "
        "workers' copy, whose rest is kept for later (SPARTA)",
        choices=("weights", "changes"),
    )
    whole_every: int = option(
        0,
        "of so many versions one is sent whole, for workers that missed a change; 0: none (send: changes)",
        low=0,
    )
    momentum: float = option(
        0.0,
        "m: a worker generates with w <- m w + (1 - m) copy, after each change that came (section 6.3; send: changes)",
        low=0,
        high=0.99,
    )
    chunk: int = option(
        16384, "bytes; weights that take more are cut into chunks of this size", low=1024, high=1 << 24
    )
    bandwidth: int = option(
        0, "bytes of weights that the trainer hands to each worker per step; 0: whatever there is", low=0
    )
    tolerance: float = option(
        0.01, "largest difference between a recorded log-probability and the trainer's own", above=0, high=10
    )
    chance_tolerance: float = option(
        1e-4,
        "largest distance of a token's chance number to where its distribution has that token; weights of 16 bits on "
        "different processors want more, and leave a worker more choice",
        above=0,
        high=1,
    )
