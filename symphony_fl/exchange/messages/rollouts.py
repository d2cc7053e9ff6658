"""Rollouts <-> signed bytes: what a worker sampled for the tasks it was dealt, with the log-probabilities it sampled
with and the version of the weights (section 6.2).

    rollouts = mark (4 bytes) | body (msgpack) | signature (64 bytes)
    body     = [format, run hint, sender hint, step, part, version, digest of the weights, lengths, token ids, logprobs]

Lengths are 2 bytes a completion, ids 2 or 4 bytes a token by the size of the vocabulary, log-probabilities float32; all
little-endian. No task, no text and no reward travels: the trainer knows the tasks and judges the tokens itself.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np

from symphony_fl import refusals
from symphony_fl.exchange.flat import DIGEST_BYTES
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

FORMAT = 1
MARK = b"SFTR"

_DOMAIN = b"symphony-fl/rollouts/1\0"
_HEAD = 96  # bytes of a body without its arrays, at most


@dataclass(frozen=True)
class Rollouts:
    """Completions of one part of a step's tasks, R of them with S tokens in all.

    Attributes
    ----------
    step, part : whose tasks.
    version : of the weights that generated;
    policy : their digest, 16 bytes.
    lengths : int64 [R].
    ids : int64 [S], completion after completion.
    logprobs : float32 [S].
    """

    step: int
    part: int
    version: int
    policy: bytes
    lengths: np.ndarray
    ids: np.ndarray
    logprobs: np.ndarray


@dataclass(frozen=True)
class Form:
    """What rollouts of a run can look like.

    Attributes
    ----------
    run : 16-byte digest of the run.
    vocabulary : tokens of the model;
    end : the one that ends a completion.
    longest : tokens of a completion, at most.
    rows : completions of a part, at most.
    """

    run: bytes
    vocabulary: int
    end: int
    longest: int
    rows: int

    @property
    def id_type(self) -> np.dtype:
        return np.dtype("<u2") if self.vocabulary <= 1 << 16 else np.dtype("<u4")

    @property
    def max_bytes(self) -> int:
        """No rollouts of this form are longer."""
        tokens = self.rows * self.longest
        return len(MARK) + _HEAD + SIGNATURE_BYTES + 2 * self.rows + (4 + self.id_type.itemsize) * tokens


def seal_rollouts(form: Form, private_key: bytes, rollouts: Rollouts) -> bytes:
    """Signs rollouts for the trainer."""
    fields = [
        FORMAT,
        form.run[:HINT_BYTES],
        sender_hint(public_key_of(private_key)),
        rollouts.step,
        rollouts.part,
        rollouts.version,
        rollouts.policy,
        rollouts.lengths.astype("<u2").tobytes(),
        rollouts.ids.astype(form.id_type).tobytes(),
        rollouts.logprobs.astype("<f4").tobytes(),
    ]
    body = MARK + pack(fields)
    return body + load_private_key(private_key).sign(signed_message(_DOMAIN, form.run, body))


def open_rollouts(data: bytes, form: Form, senders: Collection[str]) -> tuple[str, Rollouts]:
    """(the sender's did:key, its rollouts) once they are whole and signed; what they say is still to be checked.

    Raises
    ------
    Refusal
        One of the first seven of `refusals.ROLLOUT_REFUSALS`, whatever the bytes; nothing else.
    """
    if len(data) > form.max_bytes:
        raise refusals.Oversized(f"{len(data)} bytes, at most {form.max_bytes}")
    if len(data) <= len(MARK) + SIGNATURE_BYTES:
        raise refusals.Truncated(f"{len(data)} bytes")
    if not data.startswith(MARK):
        raise refusals.Malformed("no rollouts: does not begin with the mark")
    run, hint, rollouts = _read(data[len(MARK) : -SIGNATURE_BYTES], form)
    if run != form.run[:HINT_BYTES]:
        raise refusals.WrongRun("of another run")
    message = signed_message(_DOMAIN, form.run, data[:-SIGNATURE_BYTES])
    return known_signer(senders, hint, data[-SIGNATURE_BYTES:], message), rollouts


def check_completions(rollouts: Rollouts, form: Form, rows: int) -> None:
    """That these are `rows` completions that sampling can give.

    Raises
    ------
    WrongTask
        Another number of completions.
    BadTokens
        A token the model does not have, or a completion that goes on after its end or stops before it.
    NotFinite
        A log-probability is no number, or above 0.
    """
    lengths, ids = rollouts.lengths, rollouts.ids
    if lengths.size != rows:
        raise refusals.WrongTask(f"{lengths.size} completions, {rows} were asked for")
    if ids.size and int(ids.max()) >= form.vocabulary:
        raise refusals.BadTokens(f"token {int(ids.max())}, the model has {form.vocabulary}")
    last = np.cumsum(lengths) - 1  # where completions end
    ends = ids == form.end
    cut_short = (lengths < form.longest) & ~ends[last]
    if cut_short.any() or int(ends.sum()) != int(ends[last].sum()):
        raise refusals.BadTokens("a completion does not end as sampling ends")
    if not (np.isfinite(rollouts.logprobs).all() and (rollouts.logprobs <= 0).all()):
        raise refusals.NotFinite("a log-probability is not finite, or above 0")


def _read(body: bytes, form: Form) -> tuple[bytes, bytes, Rollouts]:
    """(run hint, sender hint, rollouts) behind canonical bytes."""
    fields = unpack(body, "rollouts", FORMAT)
    if [type(field) for field in fields[1:]] != [bytes, bytes, int, int, int, bytes, bytes, bytes, bytes]:
        raise refusals.Malformed("rollouts: a field is missing or of another type")
    _, run, sender, step, part, version, policy, lengths, ids, logprobs = fields
    for what, length in ((run, HINT_BYTES), (sender, SENDER_HINT_BYTES), (policy, DIGEST_BYTES)):
        if len(what) != length:
            raise refusals.Malformed(f"rollouts: a digest is not {length} bytes")
    if not all(0 <= number < ROUND_LIMIT for number in (step, part, version)):
        raise refusals.Malformed("rollouts: a number is out of range")
    arrays = [_array(*pair) for pair in ((lengths, "<u2"), (ids, form.id_type), (logprobs, "<f4"))]
    counts = arrays[0].astype(np.int64)
    if not counts.size or not (1 <= counts.min() and counts.max() <= form.longest):
        raise refusals.Malformed(f"rollouts: a completion must have 1 to {form.longest} tokens")
    if not int(counts.sum()) == arrays[1].size == arrays[2].size:
        raise refusals.Malformed("rollouts: lengths, tokens and log-probabilities do not fit each other")
    tokens = arrays[1].astype(np.int64)
    return run, sender, Rollouts(step, part, version, policy, counts, tokens, arrays[2].astype(np.float32))


def _array(data: bytes, kind: Any) -> np.ndarray:
    if len(data) % np.dtype(kind).itemsize:
        raise refusals.Malformed("rollouts: an array is cut short")
    return np.frombuffer(data, kind)
