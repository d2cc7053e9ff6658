"""A TCP forwarder between one device and the SuperLink, whose port can be closed and opened: a network that fails.

Bytes pass as they are, so TLS and Flower's authentication are between device and SuperLink as without it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any


class Forwarder:
    """Listens at a loopback port of its own until closed; runs in a thread of its own.

    Parameters
    ----------
    target : the loopback port that is forwarded to
    """

    def __init__(self, target: int) -> None:
        self.target = target
        self.port = 0
        self.carried = 0  # bytes, both ways
        self._left: int | None = None  # bytes that still pass on their way to the target
        self._loop = asyncio.new_event_loop()
        self._flow = asyncio.Event()
        self._flow.set()
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        threading.Thread(target=self._loop.run_forever, name="forwarder", daemon=True).start()
        self.open()

    def open(self) -> None:
        """Listen, at the same port as before, and let bytes pass."""
        self._do(self._open())

    def shut(self) -> None:
        """Close the port and every connection: who tries is refused."""
        self._do(self._shut())

    def hold(self) -> None:
        """Keep connections and let no byte pass: nobody is told that the network is gone."""
        self._loop.call_soon_threadsafe(self._flow.clear)

    def hold_after(self, count: int) -> None:
        """Hold, once so many more bytes have passed on their way to the target."""
        self._loop.call_soon_threadsafe(setattr, self, "_left", count)

    @property
    def holding(self) -> bool:
        return not self._flow.is_set()

    def close(self) -> None:
        """Shut for good."""
        self.shut()
        self._loop.call_soon_threadsafe(self._loop.stop)

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _open(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._carry, "127.0.0.1", self.port)
            self.port = int(self._server.sockets[0].getsockname()[1])
        self._flow.set()

    async def _shut(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in self._writers:
            writer.transport.abort()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:  # the SuperLink is away
            writer.transport.abort()
            self._writers.discard(writer)
            return
        self._writers.add(back)
        try:
            await asyncio.gather(self._pump(reader, back, True), self._pump(there, writer, False))
        finally:
            for end in (writer, back):
                self._writers.discard(end)
                end.transport.abort()

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, there: bool) -> None:
        with suppress(OSError):
            while data := await source.read(1 << 16):
                await self._flow.wait()
                if there and self._left is not None:
                    passing, self._left = data[: self._left], self._left - len(data)
                    if self._left <= 0:
                        sink.write(passing)
                        self._left, data = None, data[len(passing) :]
                        self._flow.clear()
                        await self._flow.wait()
                sink.write(data)
                await sink.drain()
                self.carried += len(data)
            if sink.can_write_eof():
                sink.write_eof()
