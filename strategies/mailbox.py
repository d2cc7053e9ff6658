"""The ServerApp's part in gossip: it holds envelopes between two deliveries and never opens one.

Everything in it came from the network, so these are bounded: the size of an envelope, and for each recipient the number
and the bytes of waiting envelopes. When a recipient's mail overflows, the oldest envelope of the sender with the most
mail waiting there is dropped, so an agent that sends too much loses only its own mail.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from clients.protocol.addressing import handed_over_by, mail_label, recipients_in

MAX_ENVELOPE = 256 << 20  # bytes; far above any adapter, far below a server's memory
MAX_WAITING = 4096  # envelopes waiting for one recipient
MAX_WAITING_BYTES = 768 << 20  # of all of them; a device takes messages of at most 1 GiB (`edge/frames.py`)


class _Box:
    """Envelopes waiting for one recipient, by delivering agent, each oldest first."""

    def __init__(self) -> None:
        # bearer -> label -> (when it came among all, envelope)
        self._heaps: dict[str, dict[str, tuple[int, bytes]]] = defaultdict(dict)
        self._sizes: Counter[str] = Counter()
        self._came = self._number = self._size = 0

    def put(self, label: str, data: bytes) -> None:
        self._came += 1
        came, bearer = self._came, handed_over_by(label)
        old = self._heaps[bearer].get(label)
        if old is not None:  # it stays in its old place: mail is in the order of rounds
            came = old[0]
            self._count(bearer, -1, -len(old[1]))
        self._heaps[bearer][label] = came, data
        self._count(bearer, 1, len(data))
        while self._number > MAX_WAITING:
            self._drop_oldest(max(self._heaps, key=lambda name: len(self._heaps[name])))
        while self._size > MAX_WAITING_BYTES:
            self._drop_oldest(max(self._heaps, key=lambda name: self._sizes[name]))

    def take(self, label: str) -> bytes | None:
        bearer = handed_over_by(label)
        _, data = self._heaps[bearer].pop(label, (0, None))
        if data is not None:
            self._count(bearer, -1, -len(data))
        return data

    def all(self) -> dict[str, bytes]:
        """Label -> envelope, oldest first."""
        found = [(came, label, data) for heap in self._heaps.values() for label, (came, data) in heap.items()]
        return {label: data for _, label, data in sorted(found)}

    def _drop_oldest(self, bearer: str) -> None:
        self.take(next(iter(self._heaps[bearer])))

    def _count(self, bearer: str, number: int, size: int) -> None:
        self._number += number
        self._size += size
        self._sizes[bearer] += size


class Mailbox:
    """Envelopes by recipient. Mail stays until its delivery is confirmed, since merging twice is harmless
    (a receiver refuses what it has seen) and losing mail is not."""

    def __init__(self) -> None:
        self._boxes: dict[int, _Box] = defaultdict(_Box)

    def post(self, sender: int, round: int, neighbours: Sequence[int], outbox: Mapping[str, bytes]) -> int:
        """Put a copy of every envelope of `sender` before each neighbour it is meant for.

        Returns the number of envelopes turned away as oversized.
        """
        turned_away = 0
        for number, (wanted, data) in enumerate(outbox.items()):
            if len(data) > MAX_ENVELOPE:
                turned_away += 1
                continue
            for recipient in recipients_in(wanted, neighbours):
                self._boxes[recipient].put(mail_label(sender, round, number), data)
        return turned_away

    def copy(self, recipient: int, others: Sequence[int]) -> None:
        """Copy the recipient's waiting mail to other agents, as when it has left and would have forwarded it."""
        for label, data in self.mail(recipient).items():
            for other in others:
                self._boxes[other].put(label, data)

    def mail(self, recipient: int) -> Mapping[str, bytes]:
        """Label -> envelope waiting for the recipient, oldest first."""
        return self._boxes[recipient].all()

    def confirm(self, recipient: int, labels: Iterable[str]) -> dict[int, int]:
        """The recipient has these: forget them. Returns sender -> bytes delivered along that edge."""
        delivered: dict[int, int] = defaultdict(int)
        for label in labels:
            data = self._boxes[recipient].take(label)
            if data is not None:
                delivered[int(handed_over_by(label))] += len(data)
        return dict(delivered)


def posted_bytes(neighbours: Sequence[int], outbox: Mapping[str, bytes]) -> int:
    """Bytes of all the copies that `post` makes of an outbox."""
    return sum(len(data) * len(recipients_in(wanted, neighbours)) for wanted, data in outbox.items())
