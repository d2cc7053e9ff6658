"""Tasks <-> task message: tasks of one agent's own making for its neighbours, as signed bytes (section 5.1,
"broadcasting selected tasks or evaluations to peers, allowing for cooperative benchmarking").

    message = mark (4 bytes) | body (msgpack) | signature (64 bytes)
    body    = [version, run hint, sender hint, round, [[skill, difficulty, text, success rate, attempts], ...]]

A task travels as the text that its sender's model wrote, never with an answer: the receiver reads the text with an
executor of its own. Only the canonical encoding is accepted. The Ed25519 signature is over a domain separator, the full
digest of the run and every byte before it, so that no task message passes for an envelope or for another run's.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import Any

from symphony_fl import refusals
from symphony_fl.exchange.messages.header import HINT_BYTES, ROUND_LIMIT
from symphony_fl.identity.canonical import pack, unpack
from symphony_fl.identity.did_key import load_private_key, public_key_of
from symphony_fl.identity.signatures import (
    SENDER_HINT_BYTES,
    SIGNATURE_BYTES,
    known_signer,
    sender_hint,
    signed_message,
)

VERSION = 1
MARK = b"SFTL"
"""The first bytes of a task message. As the length of an envelope's header they would be out of range."""
MAX_TASKS = 32
MAX_TEXT = 512  # bytes of UTF-8
MAX_SKILL = 32  # bytes of UTF-8
MAX_DIFFICULTY = 255
MAX_ATTEMPTS = (1 << 16) - 1
LETTER_LIMIT = 16 << 10  # bytes in all

_DOMAIN = b"symphony-fl/letter/1\0"
_AROUND = len(MARK) + SIGNATURE_BYTES
_HEAD = 32  # bytes of a body without its tasks, at most


@dataclass(frozen=True)
class SharedTask:
    """A task as its sender's model wrote it, and how the sender fared with it: the evaluation is its word alone.

    Attributes
    ----------
    skill : short name.
    difficulty : 0..255.
    text : of the proposal, at most 512 bytes of UTF-8.
    success : the sender's mean reward in [0, 1], over attempts, 1..65535.
    """

    skill: str
    difficulty: int
    text: str
    success: float
    attempts: int


@dataclass(frozen=True)
class TaskMessage:
    """A task message that was opened. sender: did:key. round: the sender's. tasks: in its order."""

    sender: str
    round: int
    tasks: tuple[SharedTask, ...]


def is_task_message(data: bytes) -> bool:
    """Whether these bytes claim to be a task message, and so are no envelope."""
    return data.startswith(MARK)


def fitting(tasks: Sequence[SharedTask]) -> list[SharedTask]:
    """The tasks that fit one message, in their order, without tasks that are too long and those after the limit."""
    room = LETTER_LIMIT - _AROUND - _HEAD
    kept: list[SharedTask] = []
    for task in tasks:
        if len(task.text.encode()) > MAX_TEXT:
            continue
        room -= len(pack(astuple(task)))
        if room < 0 or len(kept) == MAX_TASKS:
            break
        kept.append(task)
    return kept


def seal_task_message(run: bytes, private_key: bytes, round: int, tasks: Sequence[SharedTask]) -> bytes:
    """Signs tasks for the neighbours.

    Parameters
    ----------
    run : 16-byte digest of the run.
    private_key : 32 raw bytes.
    round : of the sender, 0 .. 2^31 - 1.
    tasks : such as `fitting` gives.

    Raises
    ------
    ValueError
        A round or a task that no receiver would read; the message names it.
    """
    if not 0 <= round < ROUND_LIMIT:
        raise ValueError(f"round {round}: must be 0 to {ROUND_LIMIT - 1}")
    rows = [list(astuple(task)) for task in tasks]
    try:
        _tasks(rows)
    except refusals.Refusal as error:
        raise ValueError(f"tasks of a message: {error}") from None
    sender = sender_hint(public_key_of(private_key))
    body = MARK + pack([VERSION, run[:HINT_BYTES], sender, round, rows])
    signature = load_private_key(private_key).sign(signed_message(_DOMAIN, run, body))
    if len(body) + len(signature) > LETTER_LIMIT:
        raise ValueError(f"a task message of {len(body) + len(signature)} bytes: at most {LETTER_LIMIT}")
    return body + signature


def open_task_message(
    data: bytes, run: bytes, senders: Collection[str], newest: Mapping[str, int], max_round: int
) -> TaskMessage:
    """The tasks inside a message, once every check has passed. An executor still has to read what they ask.

    Parameters
    ----------
    run : 16-byte digest of the run.
    senders : did:keys from which task messages are accepted.
    newest : per sender the newest round of which a task message was opened.
    max_round : the highest the run can have reached.

    Raises
    ------
    Refusal
        One of `refusals.TASK_MESSAGE_REFUSALS`, looked for in that order, whatever the bytes; nothing else.
    """
    if len(data) > LETTER_LIMIT:
        raise refusals.Oversized(f"{len(data)} bytes, at most {LETTER_LIMIT}")
    if len(data) <= _AROUND:
        raise refusals.Truncated(f"{len(data)} bytes, more than {_AROUND} are needed")
    if not is_task_message(data):
        raise refusals.Malformed("no task message: does not begin with the mark")
    head, round, tasks = _read(data[len(MARK) : -SIGNATURE_BYTES])
    if head[0] != run[:HINT_BYTES]:
        raise refusals.WrongRun("of another run")
    message = signed_message(_DOMAIN, run, data[:-SIGNATURE_BYTES])
    sender = known_signer(senders, head[1], data[-SIGNATURE_BYTES:], message)
    if round <= newest.get(sender, -1):
        raise refusals.Replayed(f"round {round} of {sender} is not new")
    if round > max_round:
        raise refusals.FromTheFuture(f"round {round}, the run is at {max_round} at most")
    return TaskMessage(sender, round, tasks)


def _read(body: bytes) -> tuple[tuple[bytes, bytes], int, tuple[SharedTask, ...]]:
    """((run hint, sender hint), round, tasks) behind canonical bytes."""
    fields = unpack(body, "task message", VERSION)
    if len(fields) != 5:
        raise refusals.Malformed(f"task message: {len(fields)} fields, expected 5")
    _, run, sender, round, rows = fields
    for hint, length in ((run, HINT_BYTES), (sender, SENDER_HINT_BYTES)):
        if not isinstance(hint, bytes) or len(hint) != length:
            raise refusals.Malformed(f"task message: a hint is not {length} bytes")
    if type(round) is not int or not 0 <= round < ROUND_LIMIT:
        raise refusals.Malformed("task message: the round is out of range")
    return (run, sender), round, _tasks(rows)


def _tasks(rows: Any) -> tuple[SharedTask, ...]:
    if not isinstance(rows, list):
        raise refusals.Malformed("task message: the tasks are no list")
    if len(rows) > MAX_TASKS:
        raise refusals.TooMany(f"{len(rows)} tasks, at most {MAX_TASKS}")
    return tuple(map(_task, rows))


def _task(row: Any) -> SharedTask:
    if not isinstance(row, list) or [type(part) for part in row] != [str, int, str, float, int]:
        raise refusals.Malformed("task message: a task is not (skill, difficulty, text, success, attempts)")
    skill, difficulty, text, success, attempts = row
    for what, value, most in (("skill", skill, MAX_SKILL), ("text", text, MAX_TEXT)):
        if len(value.encode()) > most:
            raise refusals.TooLong(f"{what} of {len(value.encode())} bytes, at most {most}")
    if not math.isfinite(success):
        raise refusals.NotFinite(f"success = {success}")
    if not (0 <= difficulty <= MAX_DIFFICULTY and 0 <= success <= 1 and 1 <= attempts <= MAX_ATTEMPTS):
        raise refusals.Malformed(
            f"task message: difficulty = {difficulty}, success = {success} or attempts = {attempts} is out of range"
        )
    return SharedTask(skill, difficulty, text, success, attempts)
