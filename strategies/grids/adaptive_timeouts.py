"""How long to wait for an agent before asking again: the time of its recent answers, and room for the usual spread.

    deadline = median + k * MAD      of the seconds its last answers of this kind took; doubled with every failure

Median and median absolute deviation (Hampel 1974): one night of a sleeping laptop must not move them. Doubling follows
Karn and Partridge 1987. An answer that took several attempts counts with all its time, so that an agent that has become
permanently slow is not always asked too early. Until an agent has answered three times, its timeout is a multiple of
the longest time of any agent; before any answer it is `FIRST_SECONDS`.
"""

from __future__ import annotations

from collections import defaultdict, deque
from statistics import median

REMEMBERED = 16  # answers of an agent and kind
ENOUGH = 3
OTHERS = 4.0  # times what the slowest took
FIRST_SECONDS = 600.0
LEAST_SPREAD = 0.1  # of the median: answers may have been alike so far


class AdaptiveTimeouts:
    """Adaptive deadlines of every agent.

    Parameters
    ----------
    k : how many deviations beyond the median are waited for
    least, most : bounds in seconds
    """

    def __init__(self, k: float, least: float, most: float) -> None:
        self.k = k
        self.least = min(least, most)
        self.most = most
        self._seconds: dict[tuple[int, str], deque[float]] = defaultdict(lambda: deque(maxlen=REMEMBERED))

    def answered(self, agent: int, kind: str, seconds: float) -> None:
        """It took so long from the first asking to the answer."""
        self._seconds[agent, kind].append(seconds)

    def of(self, agent: int, kind: str, failures: int) -> float:
        """Seconds to wait for an agent that has failed to answer this job so often."""
        doubled: float = max(self.least, self._usual(agent, kind)) * 2.0 ** min(failures, 32)
        return min(self.most, doubled)

    def _usual(self, agent: int, kind: str) -> float:
        """Seconds within which an answer comes unless something has happened to it."""
        seconds = self._seconds[agent, kind]
        if len(seconds) >= ENOUGH:
            middle = median(seconds)
            return middle + self.k * max(median(abs(s - middle) for s in seconds), LEAST_SPREAD * middle)
        others = [max(found) for (_, other), found in self._seconds.items() if other == kind and found]
        return OTHERS * max(others) if others else FIRST_SECONDS
