"""A(.) and alpha of eq. 4: how received updates change an adapter. `RULES` lists the short names. In reading order:

rule.py              the protocol of a rule, and what rules share
average.py           eq. 4 on values; delta.py: on changes; choco.py: on distances to a public copy
epidemic.py          a state that all agents rebuild; combiners.py: how updates of one round are averaged
noloco.py            a random partner and outer momentum
robust.py            limits on hostile updates; robust_combiners.py: the same for epidemic
"""

from __future__ import annotations

from symphony_fl.exchange.rules.average import Average
from symphony_fl.exchange.rules.choco import Choco
from symphony_fl.exchange.rules.delta import Delta
from symphony_fl.exchange.rules.epidemic import Epidemic
from symphony_fl.exchange.rules.noloco import NoLoCo
from symphony_fl.exchange.rules.robust import Clipped, Middle
from symphony_fl.exchange.rules.robust_combiners import build_combiner
from symphony_fl.exchange.rules.rule import MergeError, Rule

RULES: dict[str, type] = {
    "average": Average,
    "delta": Delta,
    "choco": Choco,
    "epidemic": Epidemic,
    "noloco": NoLoCo,
}
"""Every exchange rule by its short name."""

ROBUST = ("none", "clip", "median", "trimmed")
"""What limits received updates: see `robust.py`, and `robust_combiners.py` for epidemic."""


def build_rule(
    name: str,
    size: int,
    *,
    number: int = 0,
    agents: int = 2,
    alpha: float = 1.0,
    scaling: str = "mixing",
    momentum: float = 0.0,
    gamma: float = 0.5,
    combine: str = "agents",
    eta: float = 1.0,
    keep: bool = False,
    window: int = 32,
    hops: int = 32,
    step: float = 0.7,
    pull: float = 0.9,
    robust: str = "none",
    clip: float = 1.0,
    trim: float = 0.25,
    agreement: float = -3.0,
) -> Rule:
    """The rule of a run, with a fresh state.

    Parameters
    ----------
    name : a key of `RULES`.
    size : P.
    number, agents : the agent's own number and N (epidemic).
    alpha : mixing factor (average, delta).
    scaling : mixing or sum (delta).
    momentum : of delta's average and of noloco's outer step.
    gamma : choco's consensus step.
    combine, eta, keep, window, hops : epidemic's.
    step, pull : noloco's.
    robust : one of `ROBUST`; clip, trim and agreement are its arguments.

    Raises
    ------
    MergeError
        Unknown name, an argument out of range, or a robust variant the rule cannot have.
    """
    if name not in RULES:
        raise MergeError(f"rule={name!r}: must be one of {', '.join(RULES)}")
    if robust not in ROBUST:
        raise MergeError(f"robust={robust!r}: must be one of {', '.join(ROBUST)}")
    if name == "epidemic":
        if combine not in ("agents", "senders"):
            raise MergeError(f"combine={combine!r}: must be agents or senders")
        combiner = build_combiner(
            combine if robust == "none" else robust, size, agents, trim, clip, agreement
        )
        return Epidemic(size, number, combiner, eta, keep, window, hops)
    rule: Rule
    if name == "average":
        rule = Average(size, alpha)
    elif name == "delta":
        rule = Delta(size, alpha, scaling, momentum)
    elif name == "choco":
        rule = Choco(size, gamma)
    else:
        rule = NoLoCo(size, momentum, step, pull)
    if robust == "clip":
        return Clipped(rule, size, clip)
    return rule if robust == "none" else Middle(rule, size, None if robust == "median" else trim)
