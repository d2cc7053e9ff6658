"""What leaves a node when a message cannot be answered: on a device only text meant for the network, else everything.

Flower sends the text of any exception a ClientApp raises to the SuperLink. In simulation the SuperLink is the user's
own, and the user wants the reason; a device's SuperLink belongs to someone else.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from logging import ERROR

from flwr.app import Context, Message
from flwr.common import log

from symphony_fl.errors import LocalError, PublicError, new_reference, told

Handler = Callable[[Message, Context], Message]


class Refused(PublicError, RuntimeError):
    """A message that was not answered, in words that may leave the device."""


class NodeError(LocalError, RuntimeError):
    """A node that is not set up as it must be; the message says what to change."""


def on_device(context: Context) -> bool:
    """Whether this is a node of its own, not one of a simulation's: its configuration says where its agent lives, or it
    runs in the process that a SuperNode starts."""
    named = context.node_config.get("socket") or context.node_config.get("home")
    return bool(named) or os.path.basename(sys.argv[0]) == "flwr-clientapp"


def refusing(message: Message, context: Context, call_next: Handler) -> Message:
    """The mod: on a device, an error is logged in full, and what goes on is what may be told of it.

    Raises
    ------
    Refused
        In place of any error, on a device.
    """
    try:
        return call_next(message, context)
    except Exception as error:
        if not on_device(context) or isinstance(error, Refused):
            raise
        reference = new_reference()
        kind = message.metadata.message_type
        log(ERROR, "%s: not answered (%s)", kind, reference, exc_info=error)
        raise Refused(told(error, reference)) from None
