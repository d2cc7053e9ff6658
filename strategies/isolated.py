"""No exchange at all: every agent improves alone. The lower baseline, and what gossip must beat to be worth a byte."""

from __future__ import annotations

from strategies.gossip import Gossip
from strategies.recorder import Recorder
from strategies.roster import Roster


def isolated(roster: Roster, recorder: Recorder, *, finished: int, silence: float) -> Gossip:
    """Gossip on a graph without edges."""
    return Gossip(None, roster, recorder, finished=finished, silence=silence)
