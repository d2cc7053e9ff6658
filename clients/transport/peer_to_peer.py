"""Mail without a mailbox (`exchange.transport=iroh`): what an agent delivers to its neighbours and receives directly.

After a round each neighbour gets its envelopes, or its sealed box, over QUIC (`endpoint.py`). Each edge is separate:
mail that a neighbour accepts leaves the outbox; the rest falls back to the server's mailbox and is counted
(`fallback/...`). Received mail waits in the home (`inbox.py`) and is merged with what the mailbox delivers. A round's
mail is merged with the message that would have carried it, so with a round barrier both transports give the same
numbers.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from logging import WARNING

from flwr.common import log

from clients.agents.agent import Agent
from clients.home.inbox import INBOX_BYTES, Inbox, Name
from clients.protocol.addressing import mail_label, mail_order, narrowed, recipients_in
from clients.transport.endpoint import TIMED_OUT, UNREACHABLE, Destination, Endpoint
from symphony_fl.exchange.messages.direct_message import (
    DELIVERY_LIMIT,
    MAX_PIECES,
    Head,
    pack_direct_message,
    read_body,
    read_head,
)
from symphony_fl.refusals import NoRoom, Oversized, Refusal, UnknownSender
from symphony_fl.storage.folders import write_atomically

RESTS = "rests"  # why mail falls back for an agent that could not be reached before and is not tried
MOST_BYTES = DELIVERY_LIMIT - 16 * MAX_PIECES  # of the pieces of a delivery, beside labels and lengths
MOST_SKIPPED = 8  # rounds for which an agent that cannot be reached is not tried


class PeerToPeer:
    """One agent's side of it, in one run.

    Parameters
    ----------
    agent : open
    endpoint : the device's, which serves this run from now on
    """

    def __init__(self, agent: Agent, endpoint: Endpoint) -> None:
        self._agent = agent
        self._endpoint = endpoint
        self._run = agent.exchange.session.run
        self._last_round = agent.exchange.last_round
        self._inbox = Inbox(agent.home.folder / "inbox")
        self._peers: dict[str, int] = {}  # did:key -> agent: who may deliver now; replaced, never changed
        self._addresses: dict[int, tuple[str, ...]] = {}
        self._failures: dict[int, int] = {}  # in a row
        self._skipped: dict[int, int] = {}  # since an agent was tried last
        self._refused: Counter[str] = Counter()
        self._path = agent.home.folder / "delivered.json"
        self._delivered: dict[int, list[int]] = self._read_delivered()
        self.know({})
        endpoint.serve(self)

    # --- what comes (of these, the endpoint's thread calls the first four)

    def admits(self, did: str) -> bool:
        return did in self._peers

    def announced(self, did: str, head: bytes) -> int:
        return self._read(did, head)[1].size

    def deliver(self, did: str, head: bytes, body: bytes) -> None:
        sender, read = self._read(did, head)
        read_body(body)
        self._inbox.put(sender, read.round, body, self._share())

    def refused(self, error: Refusal) -> None:
        self._refused[error.name] += 1

    def know(self, addresses: Mapping[int, tuple[str, ...]]) -> None:
        """Take the roster as it is in the home now, and where its agents say they can be reached."""
        exchange, state = self._agent.exchange, self._agent.state
        near = set(exchange.near(state))
        self._peers = {did: int(number) for number, did in state.roster.items() if did in near}
        for number, found in addresses.items():
            if self._addresses.get(number) != found:
                self._addresses[number] = found
                self._failures.pop(number, None)

    def collect(self, before: int | None) -> tuple[dict[str, bytes], list[Name], dict[str, float]]:
        """(label -> envelope, what to `forget` once they are merged, figures).

        Figures: direct/<agent>, bytes that came directly from it; refused/<error>.
        """
        names = self._inbox.names(before)
        refused, self._refused = self._refused, Counter()
        counts: Counter[str] = Counter({f"refused/{name}": n for name, n in refused.items()})
        mail: dict[str, bytes] = {}
        for sender, round in names:
            try:
                pieces = read_body(self._inbox.body((sender, round)))
            except (Refusal, OSError) as error:
                log(WARNING, "mail of agent %d, round %d: lost on disk: %s", sender, round, error)
                counts["refused/malformed"] += 1
                continue
            # Numbers the mailbox does not use: what comes both ways must not hide other pieces.
            mail |= {mail_label(sender, round, MAX_PIECES + place): data for place, data in enumerate(pieces)}
            counts[f"direct/{sender}"] += sum(map(len, pieces))
        return mail, names, {name: float(count) for name, count in counts.items()}

    def forget(self, names: Sequence[Name]) -> None:
        """These are merged, and the home has committed it."""
        self._inbox.forget(names)

    # --- what goes

    def addresses(self) -> str:
        """Where this agent can be reached now, as it goes into messages."""
        return json.dumps(self._endpoint.addresses())

    def send(self, round: int, outbox: Mapping[str, bytes]) -> dict[str, float]:
        """Hand a finished round's mail over; figures: delivered, edges it was accepted on; fallback/<why>, the others.

        Asked again for the same round, tries again where it was not accepted.
        """
        self.know({})
        done = self._delivered.setdefault(round, [])
        addressed = {n: pieces for n, pieces in self._by_neighbour(round, outbox).items() if n not in done}
        found: dict[int, str] = {}
        letters: dict[int, Destination] = {}
        for number, pieces in addressed.items():
            if self._rests(number):
                found[number] = RESTS
            elif sum(map(len, pieces)) > MOST_BYTES or len(pieces) > MAX_PIECES:
                found[number] = Oversized.name
            else:
                delivery = pack_direct_message(self._run, round, pieces)
                did = self._agent.state.roster[str(number)]
                letters[number] = Destination(did, self._addresses.get(number, ()), delivery)
        if letters:
            found |= self._endpoint.hand_over(letters)
        counts: Counter[str] = Counter()
        for number, why in sorted(found.items()):
            if not why:
                self._failures.pop(number, None)
                done.append(number)
                counts["delivered"] += 1
                continue
            if why in (UNREACHABLE, TIMED_OUT):
                self._failures[number] = self._failures.get(number, 0) + 1
            counts[f"fallback/{why}"] += 1
            log(WARNING, "round %d: mail for agent %d goes by the mailbox: %s", round, number, why)
        self._write_delivered()
        return {name: float(count) for name, count in counts.items()}

    def left(self, round: int, outbox: Mapping[str, bytes]) -> dict[str, bytes]:
        """The part of a round's outbox that was not accepted: it goes through the mailbox."""
        neighbours, done = self._neighbours(round), self._delivered.get(round, [])
        rest: dict[str, bytes] = {}
        for label, data in outbox.items():
            waiting = [number for number in recipients_in(label, neighbours) if number not in done]
            if waiting:
                rest[narrowed(label, waiting)] = data
        return rest

    def _neighbours(self, round: int) -> tuple[int, ...]:
        topology = self._agent.exchange.topology
        return () if topology is None else topology.neighbours(self._agent.number, round)

    def _by_neighbour(self, round: int, outbox: Mapping[str, bytes]) -> dict[int, list[bytes]]:
        """Neighbour with a known key -> its pieces. Who has not introduced itself cannot be written to yet."""
        neighbours = self._neighbours(round)
        found: dict[int, list[bytes]] = {}
        for label, data in outbox.items():
            for number in recipients_in(label, neighbours):
                if str(number) in self._agent.state.roster:
                    found.setdefault(number, []).append(data)
        return found

    def _rests(self, number: int) -> bool:
        """Whether an agent that could not be reached again and again is spared this round: none, 1, 3, 7, 8, 8 ..."""
        wanted = min(MOST_SKIPPED, 2 ** max(0, self._failures.get(number, 0) - 1) - 1)
        if self._skipped.get(number, 0) < wanted:
            self._skipped[number] = self._skipped.get(number, 0) + 1
            return True
        self._skipped.pop(number, None)
        return False

    def _read(self, did: str, data: bytes) -> tuple[int, Head]:
        """(sender, head). Raises Refusal."""
        sender = self._peers.get(did)
        if sender is None:  # the graph of another round by now
            raise UnknownSender(f"{did} is no neighbour of this agent")
        head = read_head(data, self._run, self._last_round)
        room = self._inbox.room(sender, head.round, self._share())
        if head.size > room:
            raise NoRoom(f"agent {sender}: a body of {head.size} bytes, there is room for {room}")
        return sender, head

    def _share(self) -> int:
        return INBOX_BYTES // max(1, len(self._peers))

    def _read_delivered(self) -> dict[int, list[int]]:
        """Agents that have accepted a round's mail. Where the file is not readable, the mailbox carries it again."""
        try:
            values = json.loads(self._path.read_text())
            return {int(round): [int(number) for number in done] for round, done in values.items()}
        except (OSError, ValueError, AttributeError, TypeError):
            return {}

    def _write_delivered(self) -> None:
        kept = self._agent.state.outbox
        self._delivered = {round: done for round, done in self._delivered.items() if round in kept}
        write_atomically(self._path, json.dumps(self._delivered).encode())


def together(mail: Mapping[str, bytes], direct: Mapping[str, bytes]) -> dict[str, bytes]:
    """Mail of both ways in the order of one mailbox: sums of floating-point numbers know it."""
    both = {**mail, **direct}
    return {label: both[label] for label in sorted(both, key=mail_order)}
