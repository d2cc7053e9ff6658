"""Labels of envelopes: whom the one in an outbox is meant for, and who handed over the one in the mail.

In an outbox: the envelope's number, followed by ">" and the agents it is meant for where those are not all
neighbours: "0", "1>3", "2>0,3"; "letter" for the letter. In mail: "<agent that handed it over>/<round>/<number>".
Labels are not signed: the server routes by them and may get them wrong, which loses or repeats mail and does nothing
worse.
"""

from __future__ import annotations

from collections.abc import Sequence

LETTER = "letter"
"""Label of the letter in an outbox: for all neighbours, and passed on by none."""


def label_for(number: int, recipients: Sequence[int] | None = None) -> str:
    """Label of the envelope in an outbox; `recipients` None means all neighbours."""
    return str(number) if recipients is None else f"{number}>{','.join(map(str, recipients))}"


def recipients_in(label: str, neighbours: Sequence[int]) -> list[int]:
    """Whom an outbox label addresses, among the sender's neighbours; nobody if it cannot be read."""
    _, mark, wanted = label.partition(">")
    if not mark:
        return list(neighbours)
    return [agent for agent in neighbours if str(agent) in wanted.split(",")]


def narrowed(label: str, recipients: Sequence[int]) -> str:
    """The same outbox label, for these recipients only."""
    return f"{label.partition('>')[0]}>{','.join(map(str, recipients))}"


def mail_label(sender: int, round: int, number: int) -> str:
    """Label of an envelope in the mail."""
    return f"{sender}/{round}/{number}"


def handed_over_by(label: str) -> str:
    """The number of the agent that handed this piece of mail over, as text."""
    return label.split("/")[0]


def mail_order(label: str) -> tuple[int, int, int]:
    """By this mail of two ways sorts as one mailbox would have it: round, agent, number. The label may be anybody's
    word; what cannot be read comes first."""
    parts = label.split("/")
    if len(parts) != 3 or not all(part.isdecimal() and len(part) <= 10 for part in parts):
        return (-1, -1, -1)
    agent, round, number = map(int, parts)
    return (round, agent, number)
