"""A QUIC endpoint under the agent's own key: mail goes straight to neighbours, relays off. The only importer of iroh.

iroh's peers prove an Ed25519 key in the TLS handshake, and an agent's did:key is such a key: who is at the other end is
known before a byte is read. Runs on a thread of its own, since neighbours deliver while the agent learns.

Strangers: their address must answer before anything is kept for them (QUIC's retry); handshakes are bounded in number
and time; a key that is no neighbour's is turned away. A neighbour has one connection at a time, and is held to what its
head announces and to a deadline.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import threading
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from logging import WARNING
from typing import Any, Protocol, TypeVar

from flwr.common import log

from clients.protocol.addresses import MAX_ADDRESSES, AddressError, checked_address
from symphony_fl import refusals
from symphony_fl.exchange.messages.direct_message import ACCEPTED, HEAD_BYTES
from symphony_fl.identity.did_key import IdentityError, did_from_public_key, public_key_from_did
from symphony_fl.refusals import Refusal

ALPN = b"symphony-fl/delivery/1"
HANDSHAKES = 16  # under way at a time
DELIVERIES = 8  # sent at a time
CONNECT_SECONDS = 3.0
STEP_SECONDS = 5.0  # bind, shake hands, read a head, close
SLOWEST = 64 << 10  # bytes per second a delivery must make, beside STEP_SECONDS
CHUNK = 1 << 20
WINDOW = 8 << 20  # bytes a neighbour may send before they are read
UNREACHABLE, NO_ADDRESS, TIMED_OUT, BROKEN = "unreachable", "no_address", "timed_out", "broken"
_REFUSAL = re.compile(r"closed by peer: ([a-z_]{1,40}) ")
_NAMES = {refusal.name for refusal in refusals.DIRECT_MESSAGE_REFUSALS}

T = TypeVar("T")


class EndpointError(RuntimeError):
    """No endpoint can be had; says why."""


class MailHandler(Protocol):
    """Who decides what is accepted. Called from the endpoint's thread; refuses by raising Refusal."""

    def admits(self, did: str) -> bool: ...

    def announced(self, did: str, head: bytes) -> int:
        """Bytes of the body to come after that head."""

    def deliver(self, did: str, head: bytes, body: bytes) -> None:
        """Keep it, for good, before returning."""

    def refused(self, error: Refusal) -> None: ...


@dataclass(frozen=True)
class Destination:
    """Where a neighbour can be reached, and what it is to be given."""

    did: str
    addresses: tuple[str, ...]
    delivery: bytes


class Endpoint:
    """Bound from construction to `close`.

    Parameters
    ----------
    key : the agent's Ed25519 private key, 32 raw bytes
    bind : ip:port to listen on, port 0 for any; empty for all interfaces
    announce : ip:port under which others reach this one, as behind a router that forwards a port; empty for none

    Raises
    ------
    EndpointError
        iroh is not installed, or cannot bind.
    """

    def __init__(self, key: bytes, bind: str = "", announce: str = "") -> None:
        try:
            import iroh
        except ImportError:
            raise EndpointError(
                "exchange.transport = 'iroh': the package iroh is not installed (pip install 'symphony-fl[iroh]')"
            ) from None
        self._iroh: Any = iroh
        self._announce = announce
        self._desk: MailHandler | None = None
        self._busy: set[str] = set()  # neighbours that are delivering now
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="endpoint", daemon=True)
        self._thread.start()
        try:
            self._endpoint = self._wait(self._bind(key, bind), STEP_SECONDS)
        except BaseException:
            self._stop_loop()
            raise
        self._accepting = asyncio.run_coroutine_threadsafe(self._accept(), self._loop)

    def serve(self, handler: MailHandler | None) -> None:
        """Set the handler that decides on deliveries; None turns every peer away."""
        self._desk = handler

    def addresses(self) -> list[str]:
        """Where this endpoint can be reached as of now, announced first."""
        found = [self._announce] if self._announce else []
        for text in self._endpoint.addr().direct_addresses():
            try:
                found.append(checked_address(text))
            except AddressError:
                continue  # of no use to others
        return list(dict.fromkeys(found))[:MAX_ADDRESSES]

    def hand_over(self, letters: Mapping[int, Destination]) -> dict[int, str]:
        """Deliver to all at once; agent -> why not, "" where it was accepted. Returns within the slowest's deadline."""
        return self._wait(self._hand_over(letters), None)

    def close(self) -> None:
        """Let go of the socket; who is delivering is cut off."""
        self._desk = None
        try:
            self._wait(self._close(), 2 * STEP_SECONDS)
        except EndpointError as error:
            log(WARNING, "endpoint: not closed cleanly: %s", error)
        self._stop_loop()

    # --- sending

    async def _hand_over(self, letters: Mapping[int, Destination]) -> dict[int, str]:
        places = asyncio.Semaphore(DELIVERIES)

        async def one(letter: Destination) -> str:
            async with places:
                return await self._send(letter)

        return dict(
            zip(letters, await asyncio.gather(*(one(letter) for letter in letters.values())), strict=True)
        )

    async def _send(self, letter: Destination) -> str:
        if not letter.addresses:
            return NO_ADDRESS
        try:
            key = self._iroh.EndpointId.from_bytes(public_key_from_did(letter.did))
            address = self._iroh.EndpointAddr(key, None, list(letter.addresses))
            async with asyncio.timeout(CONNECT_SECONDS):
                connection = await self._endpoint.connect(address, ALPN)
        except (self._iroh.IrohError, IdentityError, TimeoutError):
            return UNREACHABLE
        try:
            async with asyncio.timeout(_patience(len(letter.delivery))):
                stream = await connection.open_bi()
                for start in range(0, len(letter.delivery), CHUNK):
                    await stream.send().write_all(letter.delivery[start : start + CHUNK])
                await stream.send().finish()
                answer = await stream.recv().read_to_end(len(ACCEPTED))
            return "" if answer == ACCEPTED else BROKEN
        except TimeoutError:
            return TIMED_OUT
        except self._iroh.IrohError:
            said = _REFUSAL.search(connection.close_reason() or "")
            return said[1] if said and said[1] in _NAMES else BROKEN
        finally:
            connection.close(0, b"done")

    # --- receiving

    async def _accept(self) -> None:
        while True:
            incoming = await self._endpoint.accept_next()
            if incoming is None:
                return
            crowded = len(self._tasks) - len(self._busy) >= HANDSHAKES
            task = asyncio.create_task(self._guarded(incoming, crowded))
            if not crowded:
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def _guarded(self, incoming: Any, crowded: bool) -> None:
        """One connection attempt; whatever goes wrong with it goes wrong with it alone."""
        try:
            if crowded:
                self._count(refusals.Crowded("too many handshakes under way"))
                await incoming.refuse()
            else:
                await self._receive(incoming)
        except self._iroh.IrohError as error:  # the peer disconnected, or does not speak this protocol
            log(WARNING, "endpoint: a connection failed: %s", _brief(error))

    async def _receive(self, incoming: Any) -> None:
        if not await incoming.remote_addr_validated():
            await incoming.retry()
            return
        try:
            async with asyncio.timeout(STEP_SECONDS):
                connection = await (await incoming.accept()).connect()
        except TimeoutError:
            self._count(refusals.Slow("a handshake"))
            return
        connection.set_max_concurrent_uni_streams(0)
        connection.set_max_concurrent_bi_streams(1)
        connection.set_receive_window(WINDOW)
        try:
            await self._deliver(connection, did_from_public_key(connection.remote_id().to_bytes()))
        except Refusal as error:
            self._count(error)
            connection.close(1, error.name.encode())

    async def _deliver(self, connection: Any, did: str) -> None:
        """Raises Refusal for whatever is not accepted."""
        handler = self._desk
        if handler is None or not handler.admits(did):
            raise refusals.UnknownSender(f"{did} is no neighbour of this agent")
        if did in self._busy:
            raise refusals.Crowded(f"{did} delivers already")
        self._busy.add(did)
        try:
            async with asyncio.timeout(STEP_SECONDS):
                stream, head = await self._head(connection)
            size = handler.announced(did, head)
            async with asyncio.timeout(_patience(size)):
                body = await self._body(stream.recv(), size)
                await asyncio.to_thread(handler.deliver, did, head, body)
                await stream.send().write_all(ACCEPTED)
                await stream.send().finish()
        except TimeoutError:
            raise refusals.Slow(f"a delivery of {did}") from None
        finally:
            self._busy.discard(did)
        # The sender closes when it has the answer, which would be lost with the connection.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STEP_SECONDS):
                await connection.closed()
        connection.close(0, b"done")

    async def _head(self, connection: Any) -> tuple[Any, bytes]:
        """The stream of a delivery, and its head. Raises Truncated where the sender ends before."""
        stream = await connection.accept_bi()
        try:
            return stream, await stream.recv().read_exact(HEAD_BYTES)
        except self._iroh.IrohError as error:
            raise refusals.Truncated(f"no head: {_brief(error)}") from None

    async def _body(self, stream: Any, size: int) -> bytes:
        """Exactly `size` bytes to the end; memory grows with what arrives, not with what was announced."""
        data = bytearray()
        while len(data) <= size:
            piece = await stream.read(min(CHUNK, size + 1 - len(data)))
            if not piece:
                break
            data += piece
        if len(data) != size:
            raise refusals.Truncated(f"a body of {size} bytes was announced, {len(data)} or more came")
        return bytes(data)

    def _count(self, error: Refusal) -> None:
        log(WARNING, "endpoint: refused: %s: %s", error.name, error)
        if self._desk is not None:
            self._desk.refused(error)

    # --- the loop

    async def _bind(self, key: bytes, bind: str) -> Any:
        iroh = self._iroh
        options = iroh.EndpointOptions(
            preset=iroh.preset_minimal(),
            relay_mode=iroh.RelayMode.disabled(),
            secret_key=key,
            alpns=[ALPN],
            bind_addr=bind or None,
        )
        try:
            return await iroh.Endpoint.bind(options)
        except iroh.IrohError as error:
            raise EndpointError(f"endpoint: cannot bind {bind or 'any port'}: {_brief(error)}") from None

    async def _close(self) -> None:
        await self._endpoint.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _wait(self, work: Coroutine[Any, Any, T], seconds: float | None) -> T:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result(seconds)
        except TimeoutError:
            future.cancel()
            raise EndpointError(f"endpoint: no answer within {seconds} seconds") from None

    def _stop_loop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(STEP_SECONDS)
        if not self._thread.is_alive():
            self._loop.close()


def _patience(size: int) -> float:
    """Seconds a delivery of so many bytes may take."""
    return STEP_SECONDS + size / SLOWEST


def _brief(error: Any) -> str:
    """iroh's errors come with their stack; what it says last, in one line."""
    return str(error.message()).strip().splitlines()[-1].strip()[:200]
