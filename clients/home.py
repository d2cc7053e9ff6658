"""The agent's home: a folder that outlives processes, opened at a whole round after `kill -9` at any instant.

    home/
      key                     Ed25519 private key, mode 0600: the agent's identity (`symphony_fl/keyfile.py`)
      peers.json              optional: what the run must hold, first of all everybody's did:key (`clients/pins.py`)
      founding.json           the recipe this home was founded for, and the run's name
      state.safetensors       the last commit: adapter, optimizer and exchange state, outbox, counters
      state.copy.safetensors  the same once more: what a disk does to one file costs nothing
      home.lock               held while a process works in the home

On a device, which has a home for every run, key and peers.json lie beside the homes, once for all of them.

All state of an agent is one file, so one rename commits it: write aside, fsync, rename, fsync the folder.

A damaged file is replaced by its copy. That never takes back what others know of: nothing is said on the ground of a
commit before both files hold it (`open` sees to that after a kill in between). Going back further would: mail that was
confirmed is not brought again, and a round done once more, with other mail, makes another update of the same number.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from clients.founding import NOT_GREETED, found, read_founding
from clients.founding import HomeError as HomeError
from clients.pins import Pins, PinsError, read_pins
from symphony_fl.asynchrony import SYNCHRONOUS_OUTBOXES
from symphony_fl.folders import locked, write_atomically
from symphony_fl.keyfile import KEY_FILE, check_pins, open_key_file
from symphony_fl.recipe import Recipe

FORMAT = "symphony-home-4"
OLDER = ("symphony-home-1", "symphony-home-2", "symphony-home-3")  # had other checksums
GONE = ".gone-"  # begins the name of a home that is being removed; no run is called so
STATE, COPY = "state.safetensors", "state.copy.safetensors"


class DamagedError(HomeError):
    """A file of the home that does not hold what was once committed."""


@dataclass
class State:
    """Everything of an agent that must survive, as of a whole round.

    Attributes
    ----------
    adapter : float32 [P], the flat adapter
    arrays : named arrays of the learner (optimizer/...) and of the exchange rule (rule/...)
    outbox : round -> label -> envelope handed over in it (labels: `clients/messages.py`); the last rounds only
    relay : label -> envelopes of others to be passed on with the next round's, unopened by us in transit
    round : rounds of local improvement finished
    last_seen : did:key -> newest round merged from that sender
    heard : did:key -> this agent's round when it last merged that sender's (agents out of step)
    roster : agent number -> did:key, pinned when first heard
    tasks : JSON objects of the neighbours' tasks taken for the next round (`clients/letters.py`)
    letters : did:key -> newest round a letter was opened of
    debts : did:key -> [this agent's round, seconds]: what its tasks took of the executors (`clients/credit.py`)
    reports : round -> its reply, given (again) when that round is asked for; the last rounds only
    """

    adapter: np.ndarray
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    outbox: dict[int, dict[str, bytes]] = field(default_factory=dict)
    relay: dict[str, bytes] = field(default_factory=dict)
    round: int = 0
    last_seen: dict[str, int] = field(default_factory=dict)
    roster: dict[str, str] = field(default_factory=dict)
    reports: dict[int, dict[str, Any]] = field(default_factory=dict)
    tasks: list[dict[str, Any]] = field(default_factory=list)
    letters: dict[str, int] = field(default_factory=dict)
    heard: dict[str, int] = field(default_factory=dict)
    debts: dict[str, list[float]] = field(default_factory=dict)


class Home:
    """One agent's folder. Use `locked()`, or `acquire()` and `release()`, around every read-change-commit.

    Parameters
    ----------
    folder : made if it is not there
    identity : where key and pins lie, if not in the home itself
    room : where the folder is to be made by `make` only: called before, to see to it that there is room for one more
    """

    def __init__(
        self, folder: Path, identity: Path | None = None, room: Callable[[], None] | None = None
    ) -> None:
        self.folder = folder
        self.identity = identity or folder
        self._room = room
        self._held = ExitStack()
        if room is None:
            self.make()

    def make(self) -> bool:
        """Make the folder; False where it is there. Raises HomeError where there is no room for it."""
        if self.folder.is_dir():
            return False
        if self._room is not None:
            self._room()
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return True

    def discard(self) -> None:
        """Remove the home, of which nobody knows anything yet; a kill meanwhile leaves none that looks whole."""
        gone = self.folder.with_name(f"{GONE}{self.folder.name}")
        os.replace(self.folder, gone)
        shutil.rmtree(gone)

    @contextmanager
    def locked(self, timeout: float = 60.0) -> Iterator[None]:
        """Keep other processes out.

        Raises
        ------
        HomeError
            There is no home, or another process still holds it after `timeout` seconds.
        """
        if not self.folder.is_dir():
            raise HomeError(f"{self.folder}: there is no home", NOT_GREETED)
        with locked(
            self.folder / "home.lock",
            timeout,
            HomeError(f"{self.folder}: another process works in this home"),
        ):
            yield

    def acquire(self) -> None:
        """Keep other processes out until `release`, or until this process ends. Raises HomeError as `locked` does."""
        self._held.enter_context(self.locked())

    def release(self) -> None:
        """Let other processes in."""
        self._held.close()

    def key(self) -> bytes:
        """The 32 raw bytes of the agent's Ed25519 private key, made at the first call.

        Raises
        ------
        KeyFileError
            The file holds no key, or others than its owner may read it or replace it.
        """
        return open_key_file(self.identity / KEY_FILE).private_key

    def rotations(self) -> bytes:
        """Every change of keys this agent has made, as its neighbours are to read them (`exchange/rotation.py`)."""
        return open_key_file(self.identity / KEY_FILE).rotations

    def pins(self) -> Pins | None:
        """What the device's owner demands of a run, if anything.

        Raises
        ------
        PinsError
            The file cannot be read, or there was one and is none any more.
        """
        check_pins(self.identity, PinsError)
        return read_pins(self.identity)

    def check(self, recipe: Recipe) -> None:
        """What can be refused of a recipe before there is a home: that it is not what the owner demands, and that the
        agent's identity is not whole. Raises PinsError, KeyFileError."""
        pins = self.pins()
        if pins is not None:
            pins.check(recipe.to_json())
        self.key()

    def found(self, run: str, recipe_json: str) -> None:
        """Bind the home to a run and its recipe.

        Raises
        ------
        HomeError
            The home was founded for another run or another recipe: its adapter would be misread.
        PinsError
            The recipe does not hold what the home's pins demand.
        """
        pins = self.pins()
        if pins is not None:
            pins.check(recipe_json)
        state = any(os.path.lexists(self.folder / name) for name in (STATE, COPY))
        found(self.folder, run, recipe_json, has_state=state)

    def founding(self) -> dict[str, str]:
        """{"run": its name, "recipe_json": the resolved recipe}.

        Raises
        ------
        HomeError
            There is none, or it is not what was written.
        """
        return read_founding(self.folder)

    def load(self) -> State | None:
        """The last commit, or None in a new home. Changes nothing, needs no lock.

        Raises
        ------
        HomeError
            Neither file parses and has the checksum it was committed with.
        """
        return self._last()[0]

    def open(self) -> tuple[State | None, str]:
        """The last commit, once both files hold it, and what was wrong with a file that had to be replaced ("" for
        nothing). The home must be held. Raises HomeError as `load` does."""
        state, source, damage = self._last()
        if source is not None:
            data = source.read_bytes()
            other = self.folder / (COPY if source.name == STATE else STATE)
            if other.is_dir():
                raise HomeError(f"{other}: is a folder; remove it")
            if not other.is_file() or other.read_bytes() != data:
                write_atomically(other, data)
        return state, damage

    def _last(self) -> tuple[State | None, Path | None, str]:
        """(the last commit, the file it was read from, what is wrong with the other)."""
        main, copy = self.folder / STATE, self.folder / COPY
        if not os.path.lexists(main) and not os.path.lexists(copy):
            return None, None, ""
        try:
            state = _read(main)
        except DamagedError as error:
            if not os.path.lexists(copy):
                raise
            try:
                return _read(copy), copy, str(error)
            except DamagedError as worse:
                raise DamagedError(f"{error}; {worse}") from None
        try:
            # A copy that is one commit behind is what a kill leaves; one that is damaged is worth telling.
            same = copy.is_file() and copy.read_bytes() == main.read_bytes()
            if os.path.lexists(copy) and not same:
                _read(copy)
        except DamagedError as error:
            return state, main, str(error)
        return state, main, ""

    def commit(self, state: State, outboxes: int = SYNCHRONOUS_OUTBOXES) -> None:
        """Make `state` the home's content, atomically, durably and twice, with outboxes and reports of that many
        rounds."""
        for by_round in (state.outbox, state.reports):
            for number in sorted(by_round)[:-outboxes]:
                del by_round[number]
        tensors: dict[str, np.ndarray] = {
            "adapter": np.ascontiguousarray(state.adapter, np.float32),
            **state.arrays,
        }
        for number, envelopes in state.outbox.items():
            for label, envelope in envelopes.items():
                tensors[f"outbox/{number}/{label}"] = np.frombuffer(envelope, np.uint8)
        for label, envelope in state.relay.items():
            tensors[f"relay/{label}"] = np.frombuffer(envelope, np.uint8)
        meta: Mapping[str, Any] = {
            "format": FORMAT,
            "outbox": {str(number): list(envelopes) for number, envelopes in state.outbox.items()},
            "relay": list(state.relay),
            "round": state.round,
            "last_seen": state.last_seen,
            "roster": state.roster,
            "reports": {str(number): report for number, report in state.reports.items()},
            "tasks": state.tasks,
            "letters": state.letters,
            "heard": state.heard,
            "debts": state.debts,
        }
        text = json.dumps(meta)
        data = save(tensors, {"state": text, "sha256": _checksum(text, tensors)})
        write_atomically(self.folder / STATE, data)
        write_atomically(self.folder / COPY, data)


def _read(path: Path) -> State:
    """A file of the state.

    Raises
    ------
    DamagedError
        It does not parse, is not there, or does not have the checksum it was committed with.
    HomeError
        It is of another version.
    """
    if os.path.lexists(path) and not path.is_file():
        raise DamagedError(f"{path}: damaged (is no file)")
    try:
        with safe_open(path, framework="numpy") as file:
            text, checksum = file.metadata()["state"], file.metadata()["sha256"]
            arrays = {name: file.get_tensor(name) for name in file.keys()}
        meta: dict[str, Any] = dict(json.loads(text))
    except (SafetensorError, KeyError, TypeError, ValueError, OSError) as error:
        raise DamagedError(f"{path}: damaged ({error})") from None
    whole = _checksum(text, arrays) == checksum
    if meta.get("format") != FORMAT and (whole or str(meta.get("format")) in OLDER):
        raise HomeError(f"{path}: format {meta['format']!r}, this version reads {FORMAT!r}")
    if not whole:
        raise DamagedError(f"{path}: damaged (its content is not what was committed)")
    adapter = arrays.pop("adapter")
    outbox = {
        int(number): {label: arrays.pop(f"outbox/{number}/{label}").tobytes() for label in labels}
        for number, labels in meta["outbox"].items()
    }
    relay = {label: arrays.pop(f"relay/{label}").tobytes() for label in meta["relay"]}
    reports = {int(number): report for number, report in meta["reports"].items()}
    kept = {name: meta[name] for name in ("round", "last_seen", "roster", "tasks", "letters", "heard")}
    kept["debts"] = meta.get("debts", {})  # homes of this format were written without them
    return State(adapter, arrays, outbox, relay, reports=reports, **kept)


def _checksum(text: str, tensors: Mapping[str, np.ndarray]) -> str:
    """SHA-256 over the metadata and every tensor, with its type and shape, in the order of names."""
    total = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        total.update(f"{name} {tensors[name].dtype} {tensors[name].shape}".encode())
        total.update(np.ascontiguousarray(tensors[name]).tobytes())
    return total.hexdigest()
