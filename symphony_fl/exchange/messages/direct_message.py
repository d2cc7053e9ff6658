"""A delivery: one round's mail of one agent, on its way straight to a neighbour (`exchange.transport=iroh`).

    delivery = "SFD1" | run (16 bytes) | round (u32) | length of the body (u32), big-endian | body

The body is a bundle (`bundle.py`) of envelopes and task messages, or of one sealed box, labelled 0, 1, 2, ... It does
not name its sender: the connection was made under the sender's own key. The receiver answers `ACCEPTED`, or closes the
connection with the name of a refusal. "SFD1" names the version.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from symphony_fl import refusals
from symphony_fl.exchange.flat import DIGEST_BYTES
from symphony_fl.exchange.messages.bundle import pack_bundle, unpack_bundle

MAGIC = b"SFD1"
ACCEPTED = b"accepted"
DELIVERY_LIMIT = 256 << 20  # bytes of a body; what a mailbox takes of one envelope
MAX_PIECES = 4096
_HEAD = struct.Struct(f">{len(MAGIC)}s{DIGEST_BYTES}sII")
HEAD_BYTES = _HEAD.size


@dataclass(frozen=True)
class Head:
    """What is known of a delivery before its body is read: the run's digest, the sender's round, bytes of the body."""

    run: bytes
    round: int
    size: int


def pack_direct_message(run: bytes, round: int, pieces: Sequence[bytes]) -> bytes:
    """Head and body.

    Parameters
    ----------
    run : 16-byte digest of the run.
    round : the sender's, from 1.
    pieces : at most 4096, in the order of its outbox.

    Raises
    ------
    ValueError
        Out of these bounds, or a body beyond DELIVERY_LIMIT.
    """
    if len(run) != DIGEST_BYTES or not 1 <= round < 1 << 32 or not 1 <= len(pieces) <= MAX_PIECES:
        raise ValueError(f"delivery: run of {len(run)} bytes, round {round}, {len(pieces)} pieces")
    body = pack_bundle({str(place): piece for place, piece in enumerate(pieces)})
    if len(body) > DELIVERY_LIMIT:
        raise ValueError(f"delivery: a body of {len(body)} bytes, at most {DELIVERY_LIMIT}")
    return _HEAD.pack(MAGIC, run, round, len(body)) + body


def read_head(data: bytes, run: bytes, last_round: int) -> Head:
    """The head, checked before anything else is read.

    Parameters
    ----------
    data : HEAD_BYTES.
    run : the receiver's.
    last_round : that an agent of the run can reach.

    Raises
    ------
    Truncated, WrongVersion, WrongRun, FromTheFuture, Oversized
        What it says;
    Malformed
        Round 0 or no body.
    """
    if len(data) != HEAD_BYTES:
        raise refusals.Truncated(f"a head of {len(data)} bytes, not {HEAD_BYTES}")
    magic, theirs, round, size = _HEAD.unpack(data)
    if magic != MAGIC:
        raise refusals.WrongVersion(f"begins with {magic!r}, this version speaks {MAGIC!r}")
    if theirs != run:
        raise refusals.WrongRun("of another run")
    if round > last_round:
        raise refusals.FromTheFuture(f"round {round}, the run ends with {last_round}")
    if not round or not size:
        raise refusals.Malformed(f"round {round}, a body of {size} bytes")
    if size > DELIVERY_LIMIT:
        raise refusals.Oversized(f"a body of {size} bytes, at most {DELIVERY_LIMIT}")
    return Head(theirs, round, size)


def read_body(data: bytes) -> list[bytes]:
    """The pieces, unopened, in the sender's order.

    Raises
    ------
    Oversized, Truncated, Malformed
        No bundle of at most 4096 pieces labelled 0, 1, 2, ...
    """
    pieces = unpack_bundle(data, MAX_PIECES)
    if not pieces or list(pieces) != [str(place) for place in range(len(pieces))]:
        raise refusals.Malformed("the pieces of a delivery are labelled otherwise than 0, 1, 2, ...")
    return list(pieces.values())
