"""The ServerApp's part in gossip: it holds envelopes between two deliveries and never opens one.

Everything in it came from the network, so it is bounded: envelope size, envelopes per sender, rounds kept.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from clients.labels import handed_over_by, mail_label, recipients_in

MAX_ENVELOPE = 256 << 20  # bytes; far above any adapter, far below a server's memory
MAX_WAITING = 4096  # envelopes waiting for one recipient
MAX_WAITING_BYTES = 1 << 30  # of all of them


class Mailbox:
    """Envelopes by recipient. Mail stays until its delivery is confirmed, since merging twice is harmless
    (a receiver refuses what it has seen) and losing mail is not."""

    def __init__(self) -> None:
        self._waiting: dict[int, dict[str, bytes]] = defaultdict(dict)
        self._sizes: dict[int, int] = defaultdict(int)

    def post(self, sender: int, round: int, neighbours: Sequence[int], outbox: Mapping[str, bytes]) -> int:
        """Put a copy of every envelope of `sender` before each neighbour it is meant for.

        Returns the number of envelopes turned away as oversized. When a recipient's mail overflows, as when it
        is away for long, the oldest goes first.
        """
        turned_away = 0
        for number, (wanted, data) in enumerate(outbox.items()):
            if len(data) > MAX_ENVELOPE:
                turned_away += 1
                continue
            for recipient in recipients_in(wanted, neighbours):
                self._put(recipient, mail_label(sender, round, number), data)
        return turned_away

    def copy(self, recipient: int, others: Sequence[int]) -> None:
        """What waits for the recipient is for these as well, as when it is gone and would have handed it on."""
        for label, data in self._waiting[recipient].items():
            for other in others:
                self._put(other, label, data)

    def _put(self, recipient: int, label: str, data: bytes) -> None:
        box = self._waiting[recipient]
        self._sizes[recipient] += len(data) - len(box.get(label, b""))
        box[label] = data  # in its old place, if it was there: mail stays in the order of rounds
        while len(box) > MAX_WAITING or self._sizes[recipient] > MAX_WAITING_BYTES:
            self._sizes[recipient] -= len(box.pop(next(iter(box))))

    def mail(self, recipient: int) -> Mapping[str, bytes]:
        """Label -> envelope waiting for the recipient, oldest first."""
        return dict(self._waiting[recipient])

    def confirm(self, recipient: int, labels: Iterable[str]) -> dict[int, int]:
        """The recipient has these: forget them. Returns sender -> bytes delivered along that edge."""
        delivered: dict[int, int] = defaultdict(int)
        box = self._waiting[recipient]
        for label in labels:
            data = box.pop(label, None)
            if data is not None:
                self._sizes[recipient] -= len(data)
                delivered[int(handed_over_by(label))] += len(data)
        return dict(delivered)


def posted_bytes(neighbours: Sequence[int], outbox: Mapping[str, bytes]) -> int:
    """Bytes of all the copies that `post` makes of an outbox."""
    return sum(len(data) * len(recipients_in(wanted, neighbours)) for wanted, data in outbox.items())
