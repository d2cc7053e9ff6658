"""Why an envelope, a task message, a sealed box, rollouts or a key is refused: one named error per reason.

A refusal never ends a round. It is counted as `letters_refused/<name>` for task messages and as `refused/<name>` for
everything else.
"""

from __future__ import annotations


class Refusal(ValueError):
    """A piece of mail, or a key, that was refused. `name` is stable and short: the last part of a metric's name."""

    name = "envelope"


class Oversized(Refusal):
    """More bytes than the layout can ever need."""

    name = "oversized"


class Truncated(Refusal):
    """Fewer bytes than the parts that are announced."""

    name = "truncated"


class Malformed(Refusal):
    """Not the canonical encoding of anything: unknown fields, other types, bytes left over."""

    name = "malformed"


class WrongVersion(Refusal):
    """Another version of this protocol."""

    name = "wrong_version"


class WrongRun(Refusal):
    """Of another run."""

    name = "wrong_run"


class UnknownSender(Refusal):
    """From a key that is not among the run's agents."""

    name = "unknown_sender"


class BadSignature(Refusal):
    """The sender's key did not sign these bytes for this run, base model and layout."""

    name = "bad_signature"


class Replayed(Refusal):
    """A round of this sender that was seen before, or that is older than one that was."""

    name = "replayed"


class FromTheFuture(Refusal):
    """A round that this run cannot have reached."""

    name = "from_the_future"


class TooStale(Refusal):
    """Begun more of the receiver's rounds ago than it allows; checked only without a round barrier."""

    name = "too_stale"


class WrongBase(Refusal):
    """Made for another base model."""

    name = "wrong_base"


class WrongLayout(Refusal):
    """Made for an adapter of another layout."""

    name = "wrong_layout"


class WrongKind(Refusal):
    """Values where deltas are expected, or the like."""

    name = "wrong_kind"


class WrongSelection(Refusal):
    """Another selection than the run's, or another number of entries than the round's."""

    name = "wrong_selection"


class WrongCoding(Refusal):
    """Another value coding than the run's."""

    name = "wrong_coding"


class BadIndices(Refusal):
    """Indices out of range, out of order, repeated, or not as many as announced."""

    name = "bad_indices"


class Bomb(Refusal):
    """Values that decompress to more than the announced entries can need."""

    name = "bomb"


class NotFinite(Refusal):
    """A value or a reported reward is NaN or infinite."""

    name = "not_finite"


class WrongCopy(Refusal):
    """A change after which a worker's copy of the weights is not the trainer's: one before it is missing."""

    name = "wrong_copy"


class WrongTask(Refusal):
    """Rollouts of tasks that were not dealt to their sender, or not as many as it was dealt."""

    name = "wrong_task"


class BadTokens(Refusal):
    """Rollouts with a token that the model does not have, or that do not end as sampling ends."""

    name = "bad_tokens"


class WrongPolicy(Refusal):
    """Rollouts of weights that the trainer never sent out under the version they name, or no longer knows."""

    name = "wrong_policy"


class WrongLogprobs(Refusal):
    """Rollouts with other log-probabilities than the weights they name give those tokens."""

    name = "wrong_logprobs"


class NotSampled(Refusal):
    """Rollouts with tokens that the step's chance does not draw from the weights they name: chosen, not sampled."""

    name = "not_sampled"


class TooMany(Refusal):
    """More tasks than a task message may hold."""

    name = "too_many"


class TooLong(Refusal):
    """A task whose text, or whose skill's name, is longer than a task message allows."""

    name = "too_long"


class NotSealed(Refusal):
    """Mail that is not encrypted, in a run whose edges are."""

    name = "not_sealed"


class Misdirected(Refusal):
    """A sealed box for another agent."""

    name = "misdirected"


class BadSeal(Refusal):
    """A sealed box that its alleged sender did not seal for this agent in this run."""

    name = "bad_seal"


class WrongPeer(Refusal):
    """Another key for an agent than the one pinned, or first heard; or a key that is none."""

    name = "wrong_peer"


class BadRotation(Refusal):
    """A change of keys that the old key, or the new one, did not sign."""

    name = "bad_rotation"


class Crowded(Refusal):
    """More connections than are served at a time, in all or from this agent."""

    name = "crowded"


class NoRoom(Refusal):
    """More mail than is kept for one sender until the receiver's next message, or than the disk holds."""

    name = "no_room"


class Slow(Refusal):
    """A connection that did not bring what it announced in time."""

    name = "slow"


_SIGNED: tuple[type[Refusal], ...] = (
    Oversized,
    Truncated,
    Malformed,
    WrongVersion,
    WrongRun,
    UnknownSender,
    BadSignature,
)
"""What is looked at first in whatever an agent signed, in this order."""

REFUSALS: tuple[type[Refusal], ...] = (
    *_SIGNED,
    Replayed,
    FromTheFuture,
    WrongBase,
    WrongLayout,
    WrongKind,
    WrongSelection,
    WrongCoding,
    BadIndices,
    Bomb,
    NotFinite,
    TooStale,
)
"""Every reason to refuse an envelope, in the order in which they are looked for."""

TASK_MESSAGE_REFUSALS: tuple[type[Refusal], ...] = (
    Oversized,
    Truncated,
    Malformed,
    WrongVersion,
    TooMany,
    TooLong,
    NotFinite,
    WrongRun,
    UnknownSender,
    BadSignature,
    Replayed,
    FromTheFuture,
)
"""Every reason to refuse a task message, likewise."""

SEALED_BOX_REFUSALS: tuple[type[Refusal], ...] = (
    Oversized,
    WrongVersion,
    NotSealed,
    Truncated,
    Misdirected,
    WrongPeer,
    BadSeal,
    FromTheFuture,
    Malformed,
)
"""Every reason to refuse a sealed box, likewise; `Replayed` (already received) is checked after these."""

DIRECT_MESSAGE_REFUSALS: tuple[type[Refusal], ...] = (
    Crowded,
    UnknownSender,
    Slow,
    Truncated,
    WrongVersion,
    WrongRun,
    FromTheFuture,
    Malformed,
    Oversized,
    NoRoom,
)
"""Every reason to refuse a delivery, likewise; its contents are checked as if they had come through the mailbox."""

CHUNK_REFUSALS: tuple[type[Refusal], ...] = _SIGNED
"""Every reason to refuse a chunk, likewise; `Replayed` (already received) is checked after these."""

ROLLOUT_REFUSALS: tuple[type[Refusal], ...] = (
    *_SIGNED,
    FromTheFuture,
    TooStale,
    WrongTask,
    Replayed,
    BadTokens,
    NotFinite,
    WrongPolicy,
    WrongLogprobs,
    NotSampled,
)
"""Every reason to refuse rollouts, likewise."""
