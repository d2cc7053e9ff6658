"""Which key belongs to which agent: pinned by the device's owner, else by the first roster that names the agent.

The roster comes with every message from the SuperLink's operator. A key that differs from the known one is refused and
counted as `refused/wrong_peer`, and the known key stays, unless the known key itself signed the rotation to the new one
(`identity/rotation.py`). The home keeps the statements it accepted. With them it refuses a rotation back to an earlier
key, and pins that name an agent's earlier key stay valid.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from clients.home.pins import Pins, PinsError
from clients.home.state_file import State
from symphony_fl.identity.did_key import IdentityError, public_key_from_did
from symphony_fl.identity.key_agreement import agreement_public_key
from symphony_fl.identity.rotation import ROTATION_BYTES, Rotation, follow, read_rotations
from symphony_fl.refusals import Oversized, Refusal, WrongPeer

KEPT = "peers/rotations"  # the home's array of accepted statements, uint8
MOST_ROTATIONS = 4096  # in one message


class KnownKeys:
    """The keys one agent goes by.

    Parameters
    ----------
    state : of the agent's home; its roster is brought in line with the pins
    number, did : the agent's own
    rotations : the agent's own changes of keys
    agents : of the run
    pins : of the device's owner, or None

    Raises
    ------
    PinsError
        The pins name another key for this very agent.
    """

    def __init__(
        self, state: State, number: int, did: str, rotations: bytes, agents: int, pins: Pins | None
    ) -> None:
        self.number = number
        self.did = did
        self.agents = agents
        self.pins = pins
        if pins is not None:
            mine = pins.agents.get(number, "none")
            if did not in (mine, *(step.new for step in follow(mine, read_rotations(rotations)))):
                raise PinsError(f"{pins.source}: agents.{number} = {mine}; this home's key is {did}")
            kept = read_rotations(_kept(state))
            known = {other: [pin, *(step.new for step in follow(pin, kept))][-1]
                     for other, pin in pins.agents.items() if other < agents}  # fmt: skip
            state.roster = {str(other): current for other, current in known.items()}
        state.roster[str(number)] = did

    def admit(self, state: State, roster: Mapping[int, str], rotations: bytes) -> dict[str, float]:
        """Take what is new in a roster, with the statements that came along; returns refusals by name."""
        counts: Counter[str] = Counter()
        try:
            if len(rotations) > MOST_ROTATIONS * ROTATION_BYTES:
                raise Oversized(f"rotations of {len(rotations)} bytes")
            statements = read_rotations(rotations)
        except Refusal as error:
            counts[f"refused/{error.name}"] += 1
            statements = []
        for number, did in roster.items():
            try:
                self._admit(state, number, did, statements)
            except Refusal as error:
                counts[f"refused/{error.name}"] += 1
        return {name: float(count) for name, count in counts.items()}

    def _admit(self, state: State, number: int, did: str, statements: list[Rotation]) -> None:
        known = state.roster.get(str(number))
        if known == did:
            return
        if known is not None:
            self._rotate(state, number, known, did, statements)
            return
        if self.pins is not None or not 0 <= number < self.agents:
            raise WrongPeer(f"no agent {number} is known to this one")
        if did in state.roster.values():
            raise WrongPeer(f"agent {number}: the key {did} is another agent's")
        try:
            agreement_public_key(public_key_from_did(did))
        except IdentityError as error:
            raise WrongPeer(f"agent {number}: {error}") from None
        state.roster[str(number)] = did

    def _rotate(self, state: State, number: int, known: str, did: str, statements: list[Rotation]) -> None:
        """Move on to a key that the known one signed over to, with what is remembered of its holder."""
        kept = read_rotations(_kept(state))
        counter = max((step.counter for step in kept if step.new == known), default=0)
        chain = follow(known, statements, counter) if number != self.number else []
        places = [place for place, step in enumerate(chain) if step.new == did]
        if not places or did in state.roster.values():
            raise WrongPeer(f"agent {number} is {known}, not {did}")
        steps = chain[: places[0] + 1]
        state.arrays[KEPT] = np.frombuffer(_kept(state) + b"".join(step.data for step in steps), np.uint8)
        state.roster[str(number)] = did
        accounts: tuple[dict[str, Any], ...] = (state.last_seen, state.letters, state.heard, state.debts)
        for remembered in accounts:
            if known in remembered:
                remembered[did] = remembered.pop(known)


def _kept(state: State) -> bytes:
    return state.arrays[KEPT].tobytes() if KEPT in state.arrays else b""
