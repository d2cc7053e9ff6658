"""Encryption per edge (`exchange.encryption=edge`): an outbox becomes one sealed box per neighbour, and back.

This layer lies between the agent's exchange and task sharing, which do not know of it, and the mailbox, which sees
only sealed boxes. Each refusal is counted by name, and the round goes on. The home stores the numbers of the boxes
already received and commits them together with what was merged from those boxes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from clients.agents.exchange import Exchange
from clients.home.state_file import State
from clients.protocol.addressing import handed_over_by, label_for, mail_label, recipients_in
from symphony_fl.exchange.messages.sealed_box import SealedBoxes
from symphony_fl.identity.did_key import IdentityError
from symphony_fl.identity.replay_window import ReplayWindow
from symphony_fl.refusals import Refusal, Replayed, UnknownSender, WrongPeer

SEEN = "edges/seen"  # the home's array of sealed boxes already received
WINDOW = 32  # how many sealed boxes of one neighbour may arrive late


class EdgeEncryption:
    """Seals what one agent sends and opens what it receives.

    Parameters
    ----------
    exchange : the agent's, for its number, key, run and graph
    """

    def __init__(self, exchange: Exchange) -> None:
        self.number = exchange.number
        self.last_round = exchange.last_round
        self.topology = exchange.topology
        self._edges = SealedBoxes(exchange.session.run, exchange.key)

    def seal(
        self, state: State, outbox: Mapping[str, bytes], round: int
    ) -> tuple[dict[str, bytes], dict[str, float]]:
        """(label -> sealed box, one for each neighbour with a known key; figures).

        Figures: sealing_bytes, what encryption adds to this round's mail over all edges.
        """
        parcels: dict[str, bytes] = {}
        counts: Counter[str] = Counter()
        neighbours = [] if self.topology is None else self.topology.neighbours(self.number, round)
        for neighbour in neighbours:
            pieces = [data for label, data in outbox.items() if neighbour in recipients_in(label, neighbours)]
            did = state.roster.get(str(neighbour))
            if not pieces or did is None:  # no key yet: this neighbour has not introduced itself
                continue
            try:
                parcel = self._edges.seal(did, round, pieces)
            except IdentityError:
                counts[f"refused/{WrongPeer.name}"] += 1
                continue
            parcels[label_for(len(parcels), [neighbour])] = parcel
            counts["sealing_bytes"] += len(parcel) - sum(map(len, pieces))
        return parcels, {name: float(count) for name, count in counts.items()}

    def open(self, state: State, mail: Mapping[str, bytes]) -> tuple[dict[str, bytes], dict[str, float]]:
        """(label -> envelope or task message, as the neighbours' exchange labels them; refusals by name)."""
        pieces: dict[str, bytes] = {}
        counts: Counter[str] = Counter()
        seen = ReplayWindow(WINDOW)
        if SEEN in state.arrays:
            seen.load_state(state.arrays[SEEN])
        for label, parcel in mail.items():
            try:
                sender, round, opened = self._open(state, seen, label, parcel)
            except Refusal as error:
                counts[f"refused/{error.name}"] += 1
                continue
            pieces |= {mail_label(sender, round, place): piece for place, piece in enumerate(opened)}
        state.arrays[SEEN] = seen.state()
        return pieces, {name: float(count) for name, count in counts.items()}

    def _open(
        self, state: State, seen: ReplayWindow, label: str, parcel: bytes
    ) -> tuple[int, int, list[bytes]]:
        """(sender, round, pieces). The label says whose key to try; it is the tag that tells who sealed."""
        said = handed_over_by(label)
        did = None if said == str(self.number) else state.roster.get(said)
        if did is None:
            raise UnknownSender(f"agent {said:.20} has no business to send to this one")
        round, opened = self._edges.open(parcel, did, self.last_round)
        if not seen.add(int(said), round):
            raise Replayed(f"sealed box {round} of agent {said} is not new")
        return int(said), round, opened
