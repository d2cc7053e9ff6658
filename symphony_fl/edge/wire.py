"""One connection of a server that trusts no peer: HTTP/1.1 by h11, every wait with a timeout, every size with a bound.

It also limits the number of connections. Strangers share a few, and only for as long as a first request takes. Each
authenticated device has its own number, so that no stranger takes its place.
"""

from __future__ import annotations

import asyncio
import ipaddress
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress

import h11

PIECE = 1 << 16  # bytes read at once
MAX_HEAD = 16 << 10  # bytes of a request's line and headers
STALL_SECONDS = 30.0  # nothing came, or nothing was taken, for so long
GRACE_SECONDS, SLOWEST = 30.0, 4096.0  # a body takes at most so long, and a second more per so many bytes
LINGER_SECONDS, LINGER_BYTES = (
    1.0,
    1 << 20,
)  # a refused request's rest that is read, so that its sender sees why
STRANGERS, STRANGERS_EACH = 256, 32  # connections that have proved nothing yet: of all, of one address
KNOWN_EACH = 64  # connections of one admitted key
SAY_SECONDS = 10.0  # between two lines about refusals of one name


class Refused(Exception):
    """A request that is answered by a refusal. `name` is what it is counted as, `what` something of it to tell of."""

    def __init__(self, name: str, status: int, what: str = "") -> None:
        super().__init__(name)
        self.name = name
        self.status = status
        self.what = what


class Gone(Exception):
    """The other end has closed the connection."""


class Wire:
    """The server's end of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.state = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)

    async def head(self) -> h11.Request:
        """The next request's line and headers. How long that may take is the caller's business.

        Raises
        ------
        Gone
            There is none.
        Refused
            What came is no HTTP/1.1, or too long.
        """
        event = await self._event()
        if not isinstance(event, h11.Request):
            raise Gone
        return event

    async def body(self, most: int) -> AsyncGenerator[bytes, None]:
        """The request's body, as it comes.

        Raises
        ------
        Refused
            More than `most` bytes, or too slow.
        """
        if self.state.they_are_waiting_for_100_continue:
            await self.send(h11.InformationalResponse(status_code=100, headers=[]))
        began, count = time.monotonic(), 0
        while True:
            try:
                async with asyncio.timeout(STALL_SECONDS):
                    event = await self._event()
            except TimeoutError:
                raise Refused("body_stalled", 408) from None
            if isinstance(event, h11.EndOfMessage):
                return
            if not isinstance(event, h11.Data):
                raise Gone
            count += len(event.data)
            if count > most:
                raise Refused("body_too_large", 413)
            if time.monotonic() - began > GRACE_SECONDS + count / SLOWEST:
                raise Refused("body_too_slow", 408)
            yield bytes(event.data)

    async def send(self, event: h11.Event) -> None:
        """One part of an answer. Raises Gone if the other end does not take it."""
        data = self.state.send(event)
        if not data:
            return
        try:
            self.writer.write(data)
            async with asyncio.timeout(STALL_SECONDS):
                await self.writer.drain()
        except (TimeoutError, OSError):
            raise Gone from None

    async def refuse(self, refusal: Refused) -> None:
        """Answer by a refusal, after which the connection is to be broken off."""
        if self.state.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            return  # another answer has begun
        body = b'{"detail":"' + refusal.name.encode() + b'"}'
        headers = [("content-type", "application/json"), ("content-length", str(len(body)))]
        with suppress(h11.LocalProtocolError, Gone):
            await self.send(
                h11.Response(status_code=refusal.status, headers=[*headers, ("connection", "close")])
            )
            await self.send(h11.Data(data=body))
            await self.send(h11.EndOfMessage())
        with suppress(TimeoutError, OSError):
            async with asyncio.timeout(LINGER_SECONDS):
                count = 0
                while count < LINGER_BYTES and (data := await self.reader.read(PIECE)):
                    count += len(data)

    def next(self) -> bool:
        """Get ready for another request; False if there can be none on this connection."""
        if self.state.our_state is not h11.DONE or self.state.their_state is not h11.DONE:
            return False
        self.state.start_next_cycle()
        return True

    async def _event(self) -> object:
        try:
            while True:
                event = self.state.next_event()
                if event is not h11.NEED_DATA:
                    return event
                self.state.receive_data(await self.reader.read(PIECE))
        except h11.RemoteProtocolError as error:
            raise Refused("malformed", error.error_status_hint) from None
        except OSError:
            raise Gone from None


class Crowd:
    """How many connections there are, and of whom."""

    def __init__(self) -> None:
        self._strangers: Counter[str] = Counter()
        self._known: Counter[bytes] = Counter()

    def enter(self, address: str) -> bool:
        """Count a stranger's connection; False if there are too many."""
        if self._strangers.total() >= STRANGERS or self._strangers[address] >= STRANGERS_EACH:
            return False
        self._strangers[address] += 1
        return True

    def know(self, address: str, key: bytes) -> bool:
        """A stranger's connection is that of an admitted key from now on; False if it has too many."""
        if self._known[key] >= KNOWN_EACH:
            return False
        self.leave(address, None)
        self._known[key] += 1
        return True

    @property
    def empty(self) -> bool:
        """Whether no peer is connected."""
        return not self._strangers and not self._known

    def leave(self, address: str, key: bytes | None) -> None:
        """A connection is closed."""
        if key is None:
            self._strangers[address] -= 1
            self._strangers += Counter()  # forgets whom nothing is left of
        else:
            self._known[key] -= 1
            self._known += Counter()


class ProposalStats:
    """Refusals by name, each told of at once, then at most every ten seconds."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.counts: Counter[str] = Counter()
        self.say = say
        self._next: dict[str, float] = {}

    def count(self, name: str, address: str, what: str = "") -> None:
        """One more; `what` may be anything that a stranger sent."""
        self.counts[name] += 1
        now = time.monotonic()
        if now >= self._next.get(name, 0.0):
            self._next[name] = now + SAY_SECONDS
            about = f": {what[:100]!r}" if what else ""
            self.say(f"refused {name} from {address}{about} ({self.counts[name]} so far)")


def group(address: str) -> str:
    """What connections of one peer are counted under: its address, or its network of IPv6, which is one customer's."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    if found.ipv4_mapped:
        return str(found.ipv4_mapped)
    return str(ipaddress.ip_network((found, 64), strict=False))
