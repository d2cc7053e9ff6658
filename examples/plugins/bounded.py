"""An exchange rule: averaging in which no entry moves by more than a bound in one round.

symphony run gossip plugins=[examples/plugins/bounded.py] exchange.rule=bounded exchange.rule.most=0.01 --in-process
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np

import symphony_fl as sf
from symphony_fl.exchange.rules.average import Average
from symphony_fl.exchange.rules.rule import Received


class BoundedOptions(sf.ComponentOptions):
    """Averaging of values, each entry by a bounded step."""

    name: Literal["bounded"] = "bounded"
    most: float = sf.option(0.01, "largest change of an entry in one round", above=0)


class Bounded(Average):
    """`average`, whose move is clipped entry by entry."""

    def __init__(self, size: int, most: float) -> None:
        super().__init__(size)
        self.most = np.float32(most)

    def merge(self, theta: np.ndarray, received: Sequence[Received], round: int) -> np.ndarray:
        moved = super().merge(theta, received, round)
        return theta + np.clip(moved - theta, -self.most, self.most)


def build(options: BoundedOptions, size: int, agent: int, agents: int) -> Bounded:
    """What is registered: options of a recipe in, a rule out."""
    return Bounded(size, options.most)


sf.register("rules", build, options=BoundedOptions)
