"""What the network is told of an error, and what stays on the device.

A message may name paths, values of the environment or contents of files. So an error is told in words only where its
class says that they may leave: an allow-list, kept by inheriting from `PublicError`. Of anything else the network gets
the class's name and a reference, by which the device's owner finds the whole of it in the log.
"""

from __future__ import annotations

import secrets

MAX_TOLD = 1000  # characters


class PublicError(Exception):
    """An error that may be told: its message speaks of what was received and of what is allowed, of nothing local.

    Parameters
    ----------
    message : for the log
    public : told to the network in its place, where the message names something local; "" for nothing
    """

    def __init__(self, message: str, public: str | None = None) -> None:
        super().__init__(message)
        self.public = message if public is None else public


class LocalError(PublicError):
    """An error whose message is about this machine: nothing of it is told, but for the words meant for it."""

    def __init__(self, message: str, public: str = "") -> None:
        super().__init__(message, public)


def new_reference() -> str:
    """8 hex digits by which a line of the log is found."""
    return secrets.token_hex(4)


def told(error: BaseException, reference: str) -> str:
    """What the network is told: one printable line of bounded length.

    Parameters
    ----------
    reference : of the line in the log that says all of it
    """
    name = type(error).__name__
    if isinstance(error, PublicError) and error.public:
        return printable(f"{name}: {error.public}")
    return printable(f"{name}; the device's log has more under {reference}")


def printable(text: str, most: int = MAX_TOLD) -> str:
    """`text` on one line without control characters, cut to `most` characters: fit for a log and a terminal."""
    line = "".join(character if character.isprintable() else "?" for character in " ".join(text.split()))
    return line if len(line) <= most else line[: most - 3] + "..."
