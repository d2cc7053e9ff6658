"""Three minutes of faults of all kinds on a loopback network; and that its books would tell of a double count."""

from __future__ import annotations

import socket
import socketserver
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pair
import pytest
from chaos_ledger import Watch, balance
from chaos_run import Chaos, Plan, markdown
from forwarder import Forwarder

from clients.home.home import Home
from symphony_fl.config.recipe import load_recipe
from symphony_fl.identity.replay_window import ReplayWindow

ROUNDS = 3


@pytest.mark.slow
def test_three_minutes_of_chaos(tmp_path: Path) -> None:
    overrides = ("learner.steps=4", "learner.prompts=16", "tasks.evaluate_every=8")
    outcome = Chaos(tmp_path, Plan(minutes=3.0, seed=0, overrides=overrides, rounds=16)).carry_out()
    told = markdown(outcome)
    print(told)
    assert outcome.broken == [], told
    assert len(outcome.faults) >= 8 - len(outcome.left_out), told


@pytest.fixture(scope="module")
def watch(tmp_path_factory: pytest.TempPathFactory) -> Watch:
    """Two agents that hand each other their mail, for some rounds; the last round's is delivered."""
    folder = tmp_path_factory.mktemp("books")
    recipe = load_recipe(
        "given_tasks", ("agents=2", f"rounds={ROUNDS}", "learner.steps=1", "learner.prompts=2")
    )
    watch = Watch({number: folder / str(number) for number in (0, 1)})
    pair.play(recipe, folder, watch.look).evaluate(0)  # agent 1 does not get the last one
    return watch


def test_the_books_of_an_undisturbed_run_balance(watch: Watch) -> None:
    books = balance(watch)
    assert sorted(watch.envelopes) == [(agent, round) for agent in (0, 1) for round in (1, 2, 3)]
    assert all(book.exact for book in books.values())
    assert (books[0].counted, books[0].lost) == (6, [])
    assert (books[1].counted, books[1].lost) == (5, [(0, 3)])


@pytest.mark.parametrize("harm", ["twice", "forgotten", "changed"])
def test_the_books_tell_of_an_update_counted_twice_of_one_forgotten_and_of_one_made_anew(
    watch: Watch, tmp_path: Path, harm: str
) -> None:
    homes = {number: tmp_path / str(number) for number in (0, 1)}
    for number, folder in watch.homes.items():
        homes[number].mkdir()
        for file in folder.glob("*.*"):
            (homes[number] / file.name).write_bytes(file.read_bytes())
    copied = Watch(homes, dict(watch.envelopes))
    home = Home(homes[0])
    state = home.load()
    assert state is not None
    total = state.arrays["rule/pool/total"].copy()
    if harm == "twice":
        state.arrays["rule/pool/total"] = total + (total != 0)
    elif harm == "forgotten":
        seen = ReplayWindow(32)
        seen.load_state(state.arrays["rule/seen"])
        seen.add(1, ROUNDS + 1)
        seen.missing[1].add(ROUNDS)
        state.arrays["rule/seen"] = seen.state()
    else:
        state.outbox[ROUNDS]["0"] += b"x"
    home.commit(state)
    copied.look()
    assert copied.changed == ([(0, ROUNDS)] if harm == "changed" else [])
    assert balance(copied)[0].exact == (harm == "changed")


class _Echo(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        while data := self.request.recv(1 << 16):
            self.request.sendall(data)


@pytest.fixture
def forwarder() -> Iterator[Forwarder]:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Echo) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        found = Forwarder(server.server_address[1])
        yield found
        found.close()
        server.shutdown()


def test_a_forwarder_forwards_holds_and_shuts(forwarder: Forwarder) -> None:
    size = struct.pack("i", 300_000)
    with socket.create_connection(("127.0.0.1", forwarder.port), timeout=10) as link:
        link.sendall(size)
        assert link.recv(4) == size
        forwarder.hold()
        link.sendall(size)
        link.settimeout(0.3)
        with pytest.raises(TimeoutError):
            link.recv(4)
        forwarder.open()
        link.settimeout(10)
        assert link.recv(4) == size
        forwarder.shut()
        with pytest.raises(ConnectionError):
            if not link.recv(4):
                raise ConnectionAbortedError
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", forwarder.port), timeout=10)
    forwarder.open()
    with socket.create_connection(("127.0.0.1", forwarder.port), timeout=10) as link:
        link.sendall(size)
        assert link.recv(4) == size
