"""A grid that fetches every reply separately, so that no agent's reply delays another's.

Each message has its own request on its own thread, and a call returns the replies that are complete. The reason is that
Flower's `HttpGrid.pull_messages` waits for the whole of every reply that has begun to arrive (seen with flwr 1.41). If
a device loses its network while sending, Flower gives its reply up after three minutes without data, and after more
than an hour if the SuperLink was killed meanwhile. The other replies of that call wait with it. A second call cannot
fetch them: Flower marks them delivered in the first.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from logging import WARNING

from flwr.app import Error, Message, RecordDict
from flwr.common import log
from flwr.common.constant import ErrorCode
from flwr.serverapp import Grid

from strategies.grids.wrapper import GridWrapper

AT_ONCE = 8  # messages asked after in one call, in turn
BRIEFLY = 1.0  # seconds to wait for those; a later call returns a reply that takes longer
LONGEST = 300.0  # seconds from a reply's first byte to its last; then it counts as lost


@dataclass
class _Pull:
    """A question after one message.

    Attributes
    ----------
    began : monotonic seconds
    replies : what came of it, if anything; None while under way
    error : why it failed
    """

    began: float
    replies: list[Message] | None = None
    error: BaseException | None = None

    @property
    def done(self) -> bool:
        return self.replies is not None or self.error is not None


class PerMessageGrid(GridWrapper):
    """As above.

    Parameters
    ----------
    grid : Flower's; its `pull_messages` is called from several threads
    longest : seconds after which a reply that has begun to arrive is given up
    clock, sleep : of the process, or a test's
    """

    def __init__(
        self,
        grid: Grid,
        longest: float = LONGEST,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        super().__init__(grid, clock=clock, sleep=sleep)
        self._longest = longest
        self._sent: dict[str, Message] = {}  # without content: what an error is the reply to
        self._asked: dict[str, float] = {}  # when last, of those that are not answered
        self._pulls: dict[str, _Pull] = {}
        self._change = threading.Condition()  # guards the attributes of pulls

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        messages = list(messages)
        ids = list(self._grid.push_messages(messages))
        for message in messages:
            told = message.metadata
            stub = Message(RecordDict(), told.dst_node_id, told.message_type, ttl=told.ttl)
            stub.metadata.__dict__["_message_id"] = told.message_id  # as Flower's own grids do
            self._sent[told.message_id] = stub
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """The replies that are there as a whole; an error for one that has been arriving for too long.

        Raises
        ------
        BaseException
            What Flower's grid raised, whichever message it was asked after.
        """
        wanted = list(dict.fromkeys(message_ids))
        self._begin(wanted)
        found: list[Message] = []
        with self._change:
            self._drop_abandoned(wanted)
            for name in wanted:
                pull = self._pulls.get(name)
                if pull is None:
                    continue
                if pull.done:
                    found += self._finish(name, pull)
                elif self._clock() - pull.began > self._longest:
                    found.append(self._give_up(name))
        return found

    def _begin(self, wanted: Collection[str]) -> None:
        """Ask after those whose turn it is, and give them a moment."""
        free = sorted(
            (name for name in wanted if name not in self._pulls), key=lambda name: self._asked.get(name, 0.0)
        )
        begun = [self._ask(name) for name in free[:AT_ONCE]]
        with self._change:
            self._change.wait_for(lambda: all(pull.done for pull in begun), BRIEFLY)

    def _ask(self, name: str) -> _Pull:
        pull = _Pull(self._clock())
        self._pulls[name], self._asked[name] = pull, pull.began
        threading.Thread(target=self._pull, args=(name, pull), name="pull", daemon=True).start()
        return pull

    def _pull(self, name: str, pull: _Pull) -> None:
        replies: list[Message] | None = None
        error: BaseException | None = None
        try:
            replies = list(self._grid.pull_messages([name]))
        except (
            BaseException
        ) as raised:  # Flower's word that the run is stopped is no Exception; raised by who asks
            error = raised
        with self._change:
            pull.replies, pull.error = replies, error
            self._change.notify_all()

    def _finish(self, name: str, pull: _Pull) -> list[Message]:
        del self._pulls[name]
        if pull.error is not None:
            raise pull.error
        if pull.replies:
            self._answered(name)
        return pull.replies or []

    def _give_up(self, name: str) -> Message:
        stub = self._sent[name]
        del self._pulls[name]
        self._answered(name)
        why = f"its reply has been arriving for more than {self._longest:g} s"
        log(WARNING, "node %d: %s; given up", stub.metadata.dst_node_id, why)
        return Message(Error(ErrorCode.MESSAGE_UNAVAILABLE, why), reply_to=stub)

    def _answered(self, name: str) -> None:
        self._asked.pop(name, None)
        self._sent.pop(name, None)

    def _drop_abandoned(self, wanted: Collection[str]) -> None:
        """Drop replies that have not been asked for in a long time."""
        since = self._clock() - self._longest
        kept = set(wanted)
        for name in [name for name, when in self._asked.items() if when < since and name not in kept]:
            self._pulls.pop(name, None)
            self._answered(name)
