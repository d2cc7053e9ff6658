"""QUIC endpoints on loopback, and peers that mean no good: refused by name, counted, and the next one is served."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from clients.transport import endpoint as module
from clients.transport.endpoint import ALPN, Destination, Endpoint, EndpointError
from symphony_fl import refusals
from symphony_fl.exchange.messages.direct_message import HEAD_BYTES, pack_direct_message, read_body, read_head
from symphony_fl.identity.did_key import did_from_public_key, public_key_of
from symphony_fl.refusals import Refusal

iroh = pytest.importorskip("iroh")
RUN = bytes(16)
KEYS = {name: bytes([number]) * 32 for number, name in enumerate(("ann", "bob", "eve"), start=1)}
DIDS = {name: did_from_public_key(public_key_of(key)) for name, key in KEYS.items()}


class MailHandler:
    """Admits some, keeps what comes, and counts."""

    def __init__(self, *names: str) -> None:
        self.known = {DIDS[name] for name in names}
        self.kept: list[tuple[str, int, list[bytes]]] = []
        self.counts: list[str] = []
        self.open = threading.Event()
        self.open.set()

    def admits(self, did: str) -> bool:
        return did in self.known

    def announced(self, did: str, head: bytes) -> int:
        return read_head(head, RUN, last_round=5).size

    def deliver(self, did: str, head: bytes, body: bytes) -> None:
        self.open.wait(10)
        self.kept.append((did, read_head(head, RUN, last_round=5).round, read_body(body)))

    def refused(self, error: Refusal) -> None:
        self.counts.append(error.name)


@pytest.fixture(scope="module")
def endpoints() -> Iterator[dict[str, Endpoint]]:
    found = {name: Endpoint(key, "127.0.0.1:0") for name, key in KEYS.items()}
    yield found
    for one in found.values():
        one.close()


@pytest.fixture
def handler(endpoints: dict[str, Endpoint]) -> Iterator[MailHandler]:
    """Of bob, who knows ann and not eve."""
    found = MailHandler("ann")
    endpoints["bob"].serve(found)
    yield found
    endpoints["bob"].serve(None)


def letter(endpoints: dict[str, Endpoint], delivery: bytes, to: str = "bob") -> dict[int, Destination]:
    return {1: Destination(DIDS[to], tuple(endpoints["bob"].addresses()), delivery)}


def test_mail_arrives_from_whose_key_it_is(endpoints: dict[str, Endpoint], handler: MailHandler) -> None:
    pieces = [bytes(3_000_000), b"", b"three"]
    assert endpoints["ann"].hand_over(letter(endpoints, pack_direct_message(RUN, 2, pieces))) == {1: ""}
    assert handler.kept == [(DIDS["ann"], 2, pieces)] and handler.counts == []


def test_a_key_that_is_not_known_is_turned_away(endpoints: dict[str, Endpoint], handler: MailHandler) -> None:
    delivery = pack_direct_message(RUN, 1, [b"x"])
    assert endpoints["eve"].hand_over(letter(endpoints, delivery)) == {1: "unknown_sender"}
    assert handler.kept == [] and handler.counts == ["unknown_sender"]
    assert endpoints["ann"].hand_over(letter(endpoints, delivery)) == {1: ""}


def test_whoever_answers_at_an_address_must_hold_the_key(
    endpoints: dict[str, Endpoint], handler: MailHandler
) -> None:
    """The server may hand out a false address: the mail does not go there."""
    delivery = pack_direct_message(RUN, 1, [b"x"])
    assert endpoints["ann"].hand_over(letter(endpoints, delivery, to="eve")) == {1: "unreachable"}
    assert handler.kept == []
    stranger = did_from_public_key(
        public_key_of(bytes([8]) * 32)
    )  # of a known one iroh may remember where it was
    nowhere = {1: Destination(stranger, (), delivery), 2: Destination(stranger, ("127.0.0.1:9",), delivery)}
    assert endpoints["eve"].hand_over(nowhere) == {1: "no_address", 2: "unreachable"}


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"GET / HTTP/1.1\r\n\r\n" + bytes(50), "wrong_version"),
        (b"SFD1", "truncated"),
        (pack_direct_message(bytes([1]) * 16, 1, [b"x"]), "wrong_run"),
        (pack_direct_message(RUN, 6, [b"x"]), "from_the_future"),
        (pack_direct_message(RUN, 1, [b"x"])[:-1], "truncated"),
        (pack_direct_message(RUN, 1, [b"x"]) + b"more", "truncated"),
        (pack_direct_message(RUN, 1, [b"x"])[: HEAD_BYTES - 4] + b"\xff\xff\xff\xff", "oversized"),
        (pack_direct_message(RUN, 1, [b"x"])[:HEAD_BYTES] + b"\xff\xff\xff", "truncated"),
        (pack_direct_message(RUN, 1, [b"xx"])[:HEAD_BYTES] + b"\x01\x31\x02xx", "malformed"),
    ],
)
def test_what_a_neighbour_sends_amiss_has_its_name(
    endpoints: dict[str, Endpoint], handler: MailHandler, data: bytes, name: str
) -> None:
    assert endpoints["ann"].hand_over(letter(endpoints, data)) == {1: name}
    assert handler.counts == [name] and handler.kept == []
    assert endpoints["ann"].hand_over(letter(endpoints, pack_direct_message(RUN, 1, [b"x"]))) == {1: ""}


def _as(name: str, to: Endpoint, act: Callable[[Any], Awaitable[None]], alpn: bytes = ALPN) -> None:
    """Connect with that key, without our code, and do something there."""

    async def go() -> None:
        options = iroh.EndpointOptions(
            preset=iroh.preset_minimal(),
            relay_mode=iroh.RelayMode.disabled(),
            secret_key=KEYS[name],
            bind_addr="127.0.0.1:0",
        )
        mine = await iroh.Endpoint.bind(options)
        there = iroh.EndpointId.from_bytes(public_key_of(KEYS["bob"]))
        try:
            async with asyncio.timeout(5):
                await act(await mine.connect(iroh.EndpointAddr(there, None, to.addresses()), alpn))
        finally:
            await mine.close()

    asyncio.run(go())


def test_a_connection_of_another_protocol_harms_nobody(
    endpoints: dict[str, Endpoint], handler: MailHandler
) -> None:
    async def nothing(connection: Any) -> None:
        raise AssertionError("accepted")

    with pytest.raises(iroh.IrohError):
        _as("ann", endpoints["bob"], nothing, alpn=b"h3")
    assert endpoints["ann"].hand_over(letter(endpoints, pack_direct_message(RUN, 1, [b"x"]))) == {1: ""}


def test_who_says_nothing_or_stops_in_the_middle_is_dropped_in_time(
    endpoints: dict[str, Endpoint], handler: MailHandler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "STEP_SECONDS", 0.3)
    whole = pack_direct_message(RUN, 1, [bytes(1000)])

    async def until_dropped(connection: Any) -> None:
        assert "slow" in await connection.closed()

    async def half(connection: Any) -> None:
        stream = await connection.open_bi()
        await stream.send().write_all(whole[:500])
        assert "slow" in await connection.closed()

    _as("ann", endpoints["bob"], until_dropped)
    _as("ann", endpoints["bob"], half)
    assert handler.counts == ["slow", "slow"] and handler.kept == []
    assert endpoints["ann"].hand_over(letter(endpoints, whole)) == {1: ""}


def test_a_neighbour_has_one_connection_at_a_time(
    endpoints: dict[str, Endpoint], handler: MailHandler
) -> None:
    handler.open.clear()
    delivery = pack_direct_message(RUN, 1, [b"x"])
    answers: list[dict[int, str]] = []
    first = threading.Thread(
        target=lambda: answers.append(endpoints["ann"].hand_over(letter(endpoints, delivery)))
    )
    first.start()
    while DIDS["ann"] not in endpoints["bob"]._busy:
        time.sleep(0.01)
    assert endpoints["ann"].hand_over(letter(endpoints, delivery)) == {1: "crowded"}
    handler.open.set()
    first.join(10)
    assert answers == [{1: ""}] and handler.counts == ["crowded"]


def test_handshakes_are_bounded(
    endpoints: dict[str, Endpoint], handler: MailHandler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "HANDSHAKES", 0)
    delivery = pack_direct_message(RUN, 1, [b"x"])
    assert endpoints["ann"].hand_over(letter(endpoints, delivery)) == {1: "unreachable"}
    assert set(handler.counts) == {refusals.Crowded.name}


def test_an_endpoint_that_serves_nobody_and_one_that_is_closed() -> None:
    ann, bob = Endpoint(KEYS["ann"], "127.0.0.1:0"), Endpoint(KEYS["bob"], "127.0.0.1:0")
    to_bob = {1: Destination(DIDS["bob"], tuple(bob.addresses()), pack_direct_message(RUN, 1, [b"x"]))}
    assert ann.hand_over(to_bob) == {1: "unknown_sender"}, "between two runs"
    bob.close()
    assert ann.hand_over(to_bob) == {1: "unreachable"}
    ann.close()


def test_addresses_announced_come_first_and_a_port_that_is_taken_is_said(
    endpoints: dict[str, Endpoint],
) -> None:
    taken = endpoints["bob"].addresses()[0]
    with pytest.raises(EndpointError, match="cannot bind"):
        Endpoint(bytes([9]) * 32, taken)
    here = Endpoint(bytes([9]) * 32, "127.0.0.1:0", "203.0.113.5:4433")
    assert here.addresses()[0] == "203.0.113.5:4433" and len(here.addresses()) >= 2
    here.close()
