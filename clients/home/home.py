"""The agent's home: a folder that outlives processes, opened at a whole round after `kill -9` at any instant.

    home/
      key                     Ed25519 private key, mode 0600: the agent's identity (`symphony_fl/identity/key_file.py`)
      peers.json              optional: what the run must hold, first of all every agent's did:key (`pins.py`)
      founding.json           the recipe this home was founded for, and the run's name
      state.safetensors       the last commit: adapter, optimizer and exchange state, outbox, counters
      state.copy.safetensors  a second copy: damage to one file loses nothing
      mail.safetensors        mail that was merged and confirmed since; merged again when the home is opened
      mail.copy.safetensors   a second copy
      home.lock               held while a process works in the home

A device has one home per run; key and peers.json lie beside the homes and serve all of them.

All state of an agent is one file, so one rename commits it: write both files aside, fsync them, rename one and then
the other, fsync the folder. A round is one commit. Mail that comes without a round, as with an evaluation, is confirmed
by the answer, so it must be on disk by then. It is stored as received, in a hundredth of the bytes of a commit.

A damaged file is replaced by its copy. That never undoes what other agents have seen: no message leaves before both
copies of the commit are on disk (`open` ensures this after a kill in between). An older state would undo it: confirmed
mail is not delivered again, and a repeated round with other mail makes another update of the same number.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from clients.home.founding import NOT_GREETED, HomeError, found, read_founding
from clients.home.pins import Pins, PinsError, read_pins
from clients.home.replicated_file import ReplicatedFile
from clients.home.state_file import State, packed, packed_mail, read_mail, read_state
from symphony_fl.build.asynchrony import SYNCHRONOUS_OUTBOXES
from symphony_fl.config.options import Recipe
from symphony_fl.identity.key_file import KEY_FILE, check_pins, open_key_file
from symphony_fl.storage.folders import locked

GONE = ".gone-"  # begins the name of a home that is being removed; no run is called so
STATE, COPY = "state.safetensors", "state.copy.safetensors"
MAIL, MAIL_COPY = "mail.safetensors", "mail.copy.safetensors"


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
        self._state = ReplicatedFile(folder / STATE, folder / COPY, read_state)
        self._mail = ReplicatedFile(folder / MAIL, folder / MAIL_COPY, read_mail)
        self._committed = ""  # checksum of the last commit
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
        """Remove a home that no other agent knows of yet. A kill meanwhile leaves no home that looks whole."""
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
        """Every key rotation this agent has made, as its neighbours read them (`identity/rotation.py`)."""
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
        found = self._state.load()
        return None if found is None else found.value[0]

    def open(self) -> tuple[State | None, str]:
        """The last commit, once both files hold it, and what was wrong with a file that had to be replaced ("" for
        nothing). The home must be held. Raises HomeError as `load` does."""
        found = self._state.open()
        if found is None:
            return None, ""
        state, self._committed = found.value
        return state, found.damage

    def commit(self, state: State, outboxes: int = SYNCHRONOUS_OUTBOXES) -> None:
        """Make `state` the home's content, atomically, durably and twice, with outboxes and reports of that many
        rounds."""
        for by_round in (state.outbox, state.reports):
            for number in sorted(by_round)[:-outboxes]:
                del by_round[number]
        data, checksum = packed(state)
        self._state.write(data)
        self._committed = checksum
        self._mail.remove()

    def keep_mail(self, mail: Mapping[str, bytes]) -> None:
        """Keep mail that was merged after the last commit, durably and twice, in place of a commit. It is merged anew
        when the home is opened, which comes to the same."""
        self._mail.write(packed_mail(mail, self._committed))

    def kept_mail(self) -> tuple[dict[str, bytes], str]:
        """(what `keep_mail` was given since the last commit, once both files hold it; what was wrong with one of them).
        `open` comes first. Raises HomeError as `load` does."""
        found = self._mail.open()
        if found is None:
            return {}, ""
        mail, after = found.value
        # What a kill between a commit and the removal leaves is in that commit.
        return mail if after == self._committed else {}, found.damage
