"""Labels of envelopes: the recipients of one in an outbox, and the sender of one in the mail.

In an outbox: the envelope's number, followed by ">" and the agents it is meant for where those are not all
neighbours: "0", "1>3", "2>0,3"; "letter" for the task message. In mail: "<agent that delivered it>/<round>/<number>".
Labels are not signed. The server routes by them; if it gets them wrong, mail is lost or repeated, and nothing worse
happens.
"""

from __future__ import annotations

from collections.abc import Sequence

LETTER = "letter"
"""Label of the task message in an outbox: for all neighbours, and forwarded by none."""


def label_for(number: int, recipients: Sequence[int] | None = None) -> str:
    """Label of the envelope in an outbox; `recipients` None means all neighbours."""
    return str(number) if recipients is None else f"{number}>{','.join(map(str, recipients))}"


def recipients_in(label: str, neighbours: Sequence[int]) -> list[int]:
    """Which of the sender's neighbours an outbox label addresses; none if it cannot be read."""
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
    """The number of the agent that delivered this piece of mail, as text."""
    return label.split("/")[0]


def mail_order(label: str) -> tuple[int, int, int]:
    """Sort key that orders mail from both transports as one mailbox would: round, agent, number. Labels are untrusted;
    those that cannot be read come first."""
    parts = label.split("/")
    if len(parts) != 3 or not all(part.isdecimal() and len(part) <= 10 for part in parts):
        return (-1, -1, -1)
    agent, round, number = map(int, parts)
    return (round, agent, number)
