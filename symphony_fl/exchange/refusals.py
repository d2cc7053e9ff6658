"""Why an envelope, a letter, a parcel, rollouts or a key is refused: one named error per reason, never ending a round.

Counted as `letters_refused/<name>` for letters and as `refused/<name>` for everything else.
"""

from __future__ import annotations


class EnvelopeError(ValueError):
    """A piece of mail, or a key, that was refused. `name` is stable and short: the last part of a metric's name."""

    name = "envelope"


class Oversized(EnvelopeError):
    """More bytes than the layout can ever need."""

    name = "oversized"


class Truncated(EnvelopeError):
    """Fewer bytes than the parts that are announced."""

    name = "truncated"


class Malformed(EnvelopeError):
    """Not the canonical encoding of anything: unknown fields, other types, bytes left over."""

    name = "malformed"


class WrongVersion(EnvelopeError):
    """Another version of this protocol."""

    name = "wrong_version"


class WrongRun(EnvelopeError):
    """Of another run."""

    name = "wrong_run"


class UnknownSender(EnvelopeError):
    """From a key that is not among the run's agents."""

    name = "unknown_sender"


class BadSignature(EnvelopeError):
    """The sender's key did not sign these bytes for this run, base model and layout."""

    name = "bad_signature"


class Replayed(EnvelopeError):
    """A round of this sender that was seen before, or that is older than one that was."""

    name = "replayed"


class FromTheFuture(EnvelopeError):
    """A round that this run cannot have reached."""

    name = "from_the_future"


class TooStale(EnvelopeError):
    """In the making for more of the receiver's rounds than it allows; looked for where agents are not in step."""

    name = "too_stale"


class WrongBase(EnvelopeError):
    """Made for another base model."""

    name = "wrong_base"


class WrongLayout(EnvelopeError):
    """Made for an adapter of another layout."""

    name = "wrong_layout"


class WrongKind(EnvelopeError):
    """Values where deltas are expected, or the like."""

    name = "wrong_kind"


class WrongSelection(EnvelopeError):
    """Another selection than the run's, or another number of entries than the round's."""

    name = "wrong_selection"


class WrongCoding(EnvelopeError):
    """Another value coding than the run's."""

    name = "wrong_coding"


class BadIndices(EnvelopeError):
    """Indices out of range, out of order, repeated, or not as many as announced."""

    name = "bad_indices"


class Bomb(EnvelopeError):
    """Values that decompress to more than the announced entries can need."""

    name = "bomb"


class NotFinite(EnvelopeError):
    """A value or a reported reward is NaN or infinite."""

    name = "not_finite"


class WrongCopy(EnvelopeError):
    """A change after which a worker's copy of the weights is not the trainer's: one before it is missing."""

    name = "wrong_copy"


class WrongTask(EnvelopeError):
    """Rollouts of tasks that were not dealt to their sender, or not as many as it was dealt."""

    name = "wrong_task"


class BadTokens(EnvelopeError):
    """Rollouts with a token that the model does not have, or that do not end as sampling ends."""

    name = "bad_tokens"


class WrongPolicy(EnvelopeError):
    """Rollouts of weights that the trainer never sent out under the version they name, or no longer knows."""

    name = "wrong_policy"


class WrongLogprobs(EnvelopeError):
    """Rollouts with other log-probabilities than the weights they name give those tokens."""

    name = "wrong_logprobs"


class NotSampled(EnvelopeError):
    """Rollouts with tokens that the step's chance does not draw from the weights they name: chosen, not sampled."""

    name = "not_sampled"


class TooMany(EnvelopeError):
    """More tasks than a letter may hold."""

    name = "too_many"


class TooLong(EnvelopeError):
    """A task whose text, or whose skill's name, is longer than a letter's may be."""

    name = "too_long"


class NotSealed(EnvelopeError):
    """Mail that is not encrypted, in a run whose edges are."""

    name = "not_sealed"


class Misdirected(EnvelopeError):
    """A parcel that was sealed for another agent."""

    name = "misdirected"


class BadSeal(EnvelopeError):
    """A parcel that its alleged sender did not seal for this agent in this run."""

    name = "bad_seal"


class WrongPeer(EnvelopeError):
    """Another key for an agent than the one pinned, or first heard; or a key that is none."""

    name = "wrong_peer"


class BadRotation(EnvelopeError):
    """A change of keys that the old key, or the new one, did not sign."""

    name = "bad_rotation"


class Crowded(EnvelopeError):
    """More connections than are served at a time, in all or from this agent."""

    name = "crowded"


class NoRoom(EnvelopeError):
    """More mail than is kept for one sender until the receiver's next message, or than the disk holds."""

    name = "no_room"


class Slow(EnvelopeError):
    """A connection that did not bring what it announced in time."""

    name = "slow"


_SIGNED: tuple[type[EnvelopeError], ...] = (
    Oversized,
    Truncated,
    Malformed,
    WrongVersion,
    WrongRun,
    UnknownSender,
    BadSignature,
)
"""What is looked at first in whatever an agent signed, in this order."""

REFUSALS: tuple[type[EnvelopeError], ...] = (
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

LETTER_REFUSALS: tuple[type[EnvelopeError], ...] = (
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
"""Every reason to refuse a letter, likewise."""

PARCEL_REFUSALS: tuple[type[EnvelopeError], ...] = (
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
"""Every reason to refuse a parcel, likewise; that it was had before (`Replayed`) is found after these."""

DELIVERY_REFUSALS: tuple[type[EnvelopeError], ...] = (
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
"""Every reason to refuse a delivery, likewise; what is in it is looked at as if it had come through the mailbox."""

CHUNK_REFUSALS: tuple[type[EnvelopeError], ...] = _SIGNED
"""Every reason to refuse a chunk of weights, likewise; that it was had before (`Replayed`) is found after these."""

ROLLOUT_REFUSALS: tuple[type[EnvelopeError], ...] = (
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
