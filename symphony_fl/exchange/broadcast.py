"""From a trainer to its rollout workers: the weights of every step, or SPARTA's share of what changed (section 6.3).

    changes:  d = theta - copy;  what the selection takes of d is coded, signed and sent;  copy <- copy + decoded
    weights:  copy <- theta, whole

The copy is public: every worker rebuilds it, to the last bit, from what was sent, and the trainer keeps it too. So the
trainer can name exactly which weights generated, and what a change left out is still in the next distance: that is
error feedback (CHOCO's, `rules/choco.py`). Each envelope carries the digest of the weights that a worker generates with
after it, and a worker that comes to others says so instead of using them.

    policy <- momentum * policy + (1 - momentum) * copy      "momentum-based averaging", after each change; 0: the copy

Changes build on one another. A worker that misses one for good, or is new, catches up with the next version that is
sent whole, in float32, every so many versions.

Where a link carries only so many bytes per step, the next version is made when the last has left: of the newest theta,
so that no link ever holds what is out of date already. How old weights are then follows from their bytes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from symphony_fl import refusals
from symphony_fl.exchange.codecs.codec import build_codec
from symphony_fl.exchange.flat import digest
from symphony_fl.exchange.messages.bundle import pack_bundle, unpack_bundle
from symphony_fl.exchange.messages.chunks import MAX_COUNT, Assembly, cut, is_chunk, open_chunk
from symphony_fl.exchange.messages.envelope import open_envelope, seal
from symphony_fl.exchange.messages.session import Expectation, Session, Update
from symphony_fl.exchange.selection.selection import Dense

WAITING = 128
"""Whole versions a worker keeps until they are due; each was signed by the trainer."""


class Copy:
    """The public copy of the weights and what is generated with, the same at both ends.

    Parameters
    ----------
    initial : float32 [P], what every agent of the run begins with: version 0.
    momentum : of the averaging, in [0, 1).

    Attributes
    ----------
    public, policy : float32 [P].
    version : of the last change applied.
    """

    def __init__(self, initial: np.ndarray, momentum: float) -> None:
        self.public = initial.copy()
        self.policy = initial.copy()
        self.version = 0
        self._momentum = np.float32(momentum)

    def apply(self, kind: str, version: int, indices: np.ndarray, values: np.ndarray) -> None:
        """What a version brings, int64 [k] and float32 [k]. Arrays that were given out stay as they are.

        After whole weights nothing is left of what was before: the averaging begins anew.
        """
        self.public = self.public.copy()
        if kind == "values":
            self.public[indices] = values
        else:
            self.public[indices] += values
        if self._momentum and kind != "values":
            self.policy = self._momentum * self.policy + (np.float32(1) - self._momentum) * self.public
        else:
            self.policy = self.public.copy()
        self.version = version

    def clone(self) -> Copy:
        """The same, to try a change on."""
        other = Copy(self.public, float(self._momentum))
        other.policy, other.version = self.policy.copy(), self.version
        return other

    def arrays(self) -> dict[str, np.ndarray]:
        """For the home."""
        return {"public": self.public, "policy": self.policy, "version": np.array([self.version], np.int64)}

    def load(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Take back what `arrays` gave."""
        self.public, self.policy = np.array(arrays["public"]), np.array(arrays["policy"])
        self.version = int(arrays["version"][0])


def whole_terms(session: Session) -> Session:
    """Those of a version that is sent whole: of any run, all entries in float32."""
    return replace(
        session, kind="values", selection=Dense(session.selection.size), codec=build_codec("float32")
    )


class Publisher:
    """The trainer's end.

    Parameters
    ----------
    session : of the run; kind "values" sends weights, "difference" changes.
    key : the trainer's Ed25519 private key, 32 raw bytes.
    copy : at version 0, or loaded.
    chunk : bytes of a piece.
    bandwidth : bytes that leave per step, 0 for all.
    whole_every : of so many versions one is sent whole, 0 for none.
    """

    def __init__(
        self,
        session: Session,
        key: bytes,
        copy: Copy,
        *,
        chunk: int,
        bandwidth: int = 0,
        whole_every: int = 0,
    ) -> None:
        self.session = session
        self.copy = copy
        self.chunk = chunk
        self.bandwidth = bandwidth
        self.whole_every = whole_every
        self._made = 0  # versions
        self._key = key
        self._queue: deque[bytes] = deque()
        self._credit = 0

    def publish(self, theta: np.ndarray, version: int) -> list[bytes]:
        """What leaves with this step: pieces of the version in transit, first of all of a new one if the link is free.

        Parameters
        ----------
        theta : float32 [P], the newest weights.
        version : the step that made them.
        """
        if not self._queue:
            self._queue.extend(self._new_version(theta, version))
        if not self.bandwidth:
            sent, self._queue = list(self._queue), deque()
            return sent
        self._credit += self.bandwidth
        sent = []
        while self._queue and len(self._queue[0]) <= self._credit:
            self._credit -= len(self._queue[0])
            sent.append(self._queue.popleft())
        if not self._queue:
            self._credit = 0  # a link that stood idle does not carry more later
        return sent

    def residual(self, theta: np.ndarray) -> float:
        """Length of what the workers do not know yet."""
        return float(np.linalg.norm(theta - self.copy.public))

    def arrays(self) -> dict[str, np.ndarray]:
        """For the home, with the copy's."""
        queue = pack_bundle({str(number): piece for number, piece in enumerate(self._queue)})
        return self.copy.arrays() | {
            "queue": np.frombuffer(queue, np.uint8),
            "credit": np.array([self._credit], np.int64),
            "made": np.array([self._made], np.int64),
        }

    def load(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Take back what `arrays` gave."""
        self.copy.load(arrays)
        self._queue = deque(unpack_bundle(arrays["queue"].tobytes(), MAX_COUNT).values())
        self._credit, self._made = int(arrays["credit"][0]), int(arrays["made"][0])

    def _new_version(self, theta: np.ndarray, version: int) -> list[bytes]:
        self._made += 1
        whole = self.whole_every > 0 and self._made % self.whole_every == 0
        session = whole_terms(self.session) if whole else self.session
        difference = theta - self.copy.public
        indices = session.selection.select(difference, version)
        values = (theta if session.kind == "values" else difference)[indices]
        decoded = session.codec.decode(session.codec.encode(values), indices.size)
        self.copy.apply(session.kind, version, indices, decoded)
        sealed = seal(
            session,
            self._key,
            round=version,
            indices=indices,
            values=values,
            adapter=digest(self.copy.policy),
        )
        return cut(self.session.run, self._key, version, sealed.data, self.chunk)


class Subscriber:
    """A worker's end.

    Parameters
    ----------
    session, chunk : the publisher's.
    copy : at version 0, or loaded.
    last : the highest version a run can have.
    """

    def __init__(self, session: Session, copy: Copy, chunk: int, last: int) -> None:
        self.session = session
        self.whole = whole_terms(session)
        self.copy = copy
        self.chunk = chunk
        self.last = last
        self._assembly = Assembly()
        self._waiting: dict[int, bytes] = {}  # version -> its envelope, signature checked

    def take(self, data: bytes, trainer: str) -> None:
        """A piece of mail: a chunk, or a version that fits one. Returns if it is new, hence worth handing on.

        Parameters
        ----------
        trainer : the did:key whose weights these must be.

        Raises
        ------
        Refusal
            One of `refusals.CHUNK_REFUSALS`, those of an envelope, Replayed or NoRoom.
        """
        whole: bytes | None = data
        if is_chunk(data):
            chunk = open_chunk(data, self.session.run, trainer, self.chunk)
            most = -(-max(self.session.max_bytes, self.whole.max_bytes) // self.chunk)
            if chunk.count > most:
                raise refusals.Oversized(f"{chunk.count} chunks, at most {most}")
            if chunk.version <= self.copy.version or chunk.version in self._waiting:
                raise refusals.Replayed(f"version {chunk.version} is not new")
            whole = self._assembly.add(chunk)
        if whole is None:
            return
        update = self._open(whole, trainer)
        if update.round in self._waiting:
            raise refusals.Replayed(f"version {update.round} is not new")
        if len(self._waiting) >= WAITING:
            raise refusals.NoRoom(f"version {update.round}: {WAITING} others wait already")
        self._waiting[update.round] = whole

    def advance(self, up_to: int, trainer: str) -> int:
        """Bring the copy to the newest version that may be used: whole weights at once, changes one after the other.

        Returns the refusals on the way: changes that do not lead to the trainer's weights, kept until what is missing
        before them has come.
        """
        due = [self._open(data, trainer) for version, data in self._waiting.items() if version <= up_to]
        newest_whole = max((update.round for update in due if update.kind == "values"), default=0)
        refused = 0
        for update in sorted(due, key=lambda update: update.round):
            if update.round < newest_whole:
                continue
            tried = self.copy.clone()
            tried.apply(update.kind, update.round, update.indices, update.values)
            if digest(tried.policy) != update.adapter:
                refused += 1
                break
            self.copy = tried
        for version in [version for version in self._waiting if version <= self.copy.version]:
            del self._waiting[version]
        self._assembly.forget(self.copy.version)
        return refused

    def arrays(self) -> dict[str, np.ndarray]:
        """For the home, with the copy's."""
        waiting = {f"waiting/{v}": np.frombuffer(data, np.uint8) for v, data in self._waiting.items()}
        making = {f"chunk/{name}": piece for name, piece in self._assembly.arrays().items()}
        return self.copy.arrays() | waiting | making

    def load(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Take back what `arrays` gave."""
        self.copy.load(arrays)
        for name, array in arrays.items():
            if name.startswith("waiting/"):
                self._waiting[int(name.removeprefix("waiting/"))] = array.tobytes()
        self._assembly.load(
            {
                name.removeprefix("chunk/"): array
                for name, array in arrays.items()
                if name.startswith("chunk/")
            }
        )

    def _open(self, data: bytes, trainer: str) -> Update:
        newest = {trainer: self.copy.version}
        try:
            return open_envelope(data, Expectation(self.session, [trainer], newest, {}, self.last))
        except (refusals.WrongKind, refusals.Oversized):
            return open_envelope(data, Expectation(self.whole, [trainer], newest, {}, self.last))
