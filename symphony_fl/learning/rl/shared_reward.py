"""The shared reward of section 5.2 (4): "a windowed delayed average of all local rewards", as each agent hears them.

    x_j(t) = sum of count * mean / sum of count      over the rounds (t - delay - window, t - delay] that j reported
    value(t) = trimmed mean of x_j(t)                over the agents j heard from, oneself among them

No server computes it: reports travel in envelopes, and every agent averages what has reached it. Agents that heard the
same reports have the same value to the bit, in whatever order the reports came.

Departure from the paper: a trimmed mean or a median (Yin et al., "Byzantine-Robust Distributed Learning", arXiv
1803.01498) in place of the mean, since rewards are self-reported. What one liar among n agents can do: let
h_1 <= ... <= h_(n-1) be the others' x_j, h_0 = 0, h_n = 1, and c the values cut at each end. Whatever it reports, or if
it reports nothing (with at least one other), the value stays within

    [mean of h_c .. h_(n-c-1),  mean of h_(c+1) .. h_(n-c)]        of width (h_(n-c) - h_c) / (n - 2c)

because reports are clipped to [0, 1], the value never falls as an x_j rises, and these are its limits as the liar's own
goes to either end. For an odd n the median's interval is that between the two middle order statistics of the others.
Nothing is cut from fewer than three (c = 0), and the width is then 1 / n: two agents cannot tell which of them lies.
Here n counts the agents heard from in the window about the skill asked for, the liar included: a skill that few
practise is less protected.

The delay is not only lag: a value that is older than the round it is used in does not depend on that round's samples,
so as a baseline it leaves the policy gradient unbiased (`grpo_loss.mixed_advantages`).

N agents, S skills; K = window + delay rounds are kept.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

AHEAD = 1000
"""A report may be this many rounds beyond the newest known of its sender and of oneself; more is absurd."""
MAX_COUNT = 1 << 20
"""Tasks that a round can have; sums of counts stay exact in float64."""
_EMPTY = -1  # in the place of a round


class Report(Protocol):
    """What an agent says it earned in a round: ``mean`` over ``count`` tasks of the skill ``name``."""

    @property
    def name(self) -> str: ...

    @property
    def mean(self) -> float: ...

    @property
    def count(self) -> int: ...


class SharedReward:
    """One agent's view of what all earn. Memory is N K S reports, whatever comes.

    Parameters
    ----------
    number : the agent's own, 0..N-1
    agents : N
    skills : the run's, in an order that never changes: the state holds their places
    window : rounds averaged over
    delay : rounds before the current one at which the window ends
    trim : share of the agents cut at each end, at least one where there are three; None for the median

    Raises
    ------
    ValueError
        A parameter is out of its range.
    """

    def __init__(
        self,
        number: int,
        agents: int,
        skills: Sequence[str],
        window: int,
        delay: int,
        trim: float | None,
    ) -> None:
        if not 0 <= number < agents:
            raise ValueError(f"number = {number}: must be in 0..{agents - 1}, there are {agents} agents")
        if not skills or len(set(skills)) != len(skills):
            raise ValueError(f"skills = {', '.join(skills) or 'none'}: must be at least one, none twice")
        if window < 1:
            raise ValueError(f"window = {window}: must be at least 1")
        if delay < 0:
            raise ValueError(f"delay = {delay}: must be at least 0")
        if trim is not None and not 0 < trim < 0.5:
            raise ValueError(f"trim = {trim}: must be above 0 and below 0.5, or None for the median")
        self.number = number
        self.agents = agents
        self.skills = tuple(skills)
        self.window = window
        self.delay = delay
        self.trim = trim
        self.kept = window + delay
        # The report of round t lies in place t % K of its sender's ring.
        self._rounds_NK = np.full((agents, self.kept), _EMPTY, dtype=np.int64)
        self._counts_NKS = np.zeros((agents, self.kept, len(skills)), dtype=np.int32)
        # float32 as on the wire: an agent must hold of itself what others hold of it.
        self._means_NKS = np.zeros((agents, self.kept, len(skills)), dtype=np.float32)

    def hear(self, sender: int, round: int, reports: Sequence[Report]) -> Counter[str]:
        """Note what a sender reports of a round, oneself included; means are clipped to [0, 1].

        The first report of a round stands. A round older than the K newest of its sender is forgotten: a sender that is
        `a` rounds ahead lacks the `a` oldest of the window. The order of calls does not matter as long as none is
        refused as "absurd", and no round is reported twice with different content.

        Returns
        -------
        Counter
            what was ignored, by reason; of the whole report: "unknown_sender", "old" (no longer kept), "absurd" (below
            0, or too far ahead, see `AHEAD`), "repeated" (this round was heard); of single skills: "unknown_skill",
            "same_skill" (twice in one report), "not_finite", "bad_count" (not in 1..`MAX_COUNT`).
        """
        reason = self._reason_against(sender, round)
        if reason is not None:
            return Counter([reason])
        stale_K = self._rounds_NK[sender] <= round - self.kept
        self._rounds_NK[sender, stale_K] = _EMPTY
        self._counts_NKS[sender, stale_K] = 0
        self._means_NKS[sender, stale_K] = 0
        place = round % self.kept
        self._rounds_NK[sender, place] = round
        ignored: Counter[str] = Counter()
        for report in reports:
            if report.name not in self.skills:
                ignored["unknown_skill"] += 1
                continue
            at = (sender, place, self.skills.index(report.name))
            if not math.isfinite(report.mean):
                ignored["not_finite"] += 1
            elif not 1 <= report.count <= MAX_COUNT:
                ignored["bad_count"] += 1
            elif self._counts_NKS[at]:
                ignored["same_skill"] += 1
            else:
                self._counts_NKS[at] = report.count
                self._means_NKS[at] = min(max(report.mean, 0.0), 1.0)
        return ignored

    def value(self, round: int, skill: str | None = None) -> float | None:
        """The shared reward in [0, 1] at a round, of one skill or of all; None where the window holds no report.

        Raises
        ------
        ValueError
            ``skill`` is not one of the run's.
        """
        if skill is not None and skill not in self.skills:
            raise ValueError(f"skill = {skill!r}: must be one of {', '.join(self.skills)}")
        asked = slice(None) if skill is None else [self.skills.index(skill)]
        last = round - self.delay
        inside_NK = (last - self.window < self._rounds_NK) & (self._rounds_NK <= last)
        counts_NKS = self._counts_NKS[:, :, asked] * inside_NK[:, :, None].astype(np.float64)
        counts_N = counts_NKS.sum(axis=(1, 2))
        earned_N = (counts_NKS * self._means_NKS[:, :, asked]).sum(axis=(1, 2))
        heard_N = counts_N > 0
        if not heard_N.any():
            return None
        return trimmed_mean(earned_N[heard_N] / counts_N[heard_N], self.trim)

    def state(self) -> dict[str, np.ndarray]:
        """Copies of what must survive: ``rounds`` int64 [N, K], ``counts`` int32 and ``means`` float32 [N, K, S]."""
        return {name: array.copy() for name, array in self._arrays().items()}

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Take back what `state` gave.

        Raises
        ------
        ValueError
            An array is missing, unknown, or of another shape or type: other agents, skills, window or delay.
        """
        ours = self._arrays()
        if sorted(state) != sorted(ours):
            raise ValueError(f"shared reward: state has {sorted(state)}, expected {sorted(ours)}")
        for name, array in ours.items():
            given = state[name]
            if given.shape != array.shape or given.dtype != array.dtype:
                raise ValueError(
                    f"shared reward: {name!r} is {given.dtype} {given.shape}, expected {array.dtype} {array.shape}"
                )
        for name, array in ours.items():
            array[:] = state[name]

    def _arrays(self) -> dict[str, np.ndarray]:
        return {"rounds": self._rounds_NK, "counts": self._counts_NKS, "means": self._means_NKS}

    def _reason_against(self, sender: int, round: int) -> str | None:
        """Why a whole report is ignored, or None. One's own rounds are believed, however far they jump."""
        if not 0 <= sender < self.agents:
            return "unknown_sender"
        newest = int(self._rounds_NK[sender].max())
        # Also from one's own newest: whoever was away for long must be heard again.
        known = max(newest, int(self._rounds_NK[self.number].max()))
        if round < 0 or (sender != self.number and round > known + AHEAD):
            return "absurd"
        if round <= newest - self.kept:
            return "old"
        return "repeated" if self._rounds_NK[sender, round % self.kept] == round else None


def trimmed_mean(values: np.ndarray, trim: float | None) -> float:
    """The mean of [n] values, n > 0, without the ``trim`` n lowest and highest (rounded down, but at least one each
    where n > 2); for None the median."""
    most = (len(values) - 1) // 2
    cut = most if trim is None else min(max(1, int(trim * len(values))), most)
    return float(np.sort(values)[cut : len(values) - cut].mean())
