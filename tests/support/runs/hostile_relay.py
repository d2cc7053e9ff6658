"""The mailbox of a SuperLink run by an adversary: it delivers what it must, and before it everything it can make up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from clients.protocol.addressing import handed_over_by
from strategies import mail_router
from strategies.mailbox import Mailbox
from strategies.roster import Roster
from symphony_fl.identity.did_key import did_from_public_key, generate_private_key, public_key_of

_ANOTHER = did_from_public_key(public_key_of(generate_private_key()))


class HostileMailbox(Mailbox):
    """Forges, replays, misdirects, relabels and injects; drops nothing, so that honest mail can be seen to arrive."""

    def __init__(self) -> None:
        super().__init__()
        self.copies: dict[int, dict[str, bytes]] = {}  # everything ever posted, by its sender

    def post(self, sender: int, round: int, neighbours: Sequence[int], outbox: Mapping[str, bytes]) -> int:
        named = {f"{sender}/{round}/{label}": data for label, data in outbox.items()}
        self.copies.setdefault(sender, {}).update(named)
        return super().post(sender, round, neighbours, outbox)

    def mail(self, recipient: int) -> Mapping[str, bytes]:
        genuine = super().mail(recipient)
        attacks: dict[str, bytes] = {}
        for label, data in genuine.items():
            sender = handed_over_by(label)
            other = next(number for number in self.copies if str(number) not in (sender, str(recipient)))
            changed = bytearray(data)
            changed[-1] ^= 1
            attacks[f"{label}-forged"] = bytes(changed)
            attacks[f"{other}/relabelled-{label}"] = data
            attacks[f"{sender}/injected-{label}"] = b"\x00\x40" + bytes(300)
        for sender, posted in self.copies.items():
            for label, data in posted.items():  # all mail of all times: others', one's own, and what was had
                attacks[f"{sender}/again-{label}"] = data
        return {**attacks, **genuine} if genuine else {}


def hostile_relay(patch: pytest.MonkeyPatch) -> None:
    """Put it in the place of the mailbox of gossip. From the second roster on, agent 1 is said to have another key."""
    honest = Roster.introduction
    told: list[bool] = []

    def lie(self: Roster) -> dict[str, str | bytes]:
        words = honest(self)
        if told:
            words["roster"] = str(words["roster"]).replace(self.members()[1].did, _ANOTHER)
        told.append(True)
        return words

    patch.setattr(Roster, "introduction", lie)
    patch.setattr(mail_router, "Mailbox", HostileMailbox)
