"""A network's public port: it accepts the nine requests a device makes, from admitted devices, and nothing else.

    python -m symphony_fl.edge.fleet_proxy --listen HOST:PORT --superlink HOST:PORT ...

Flower serves nodes, operators, ServerApps and its documentation at one port, and reads every request to its end before
it checks the sender. So the SuperLink listens on loopback only, and this program listens on the operator's port. It
forwards the requests listed below after checking who signed them (`admitted.py`), as a stream, with every size bounded
(`wire.py`). Any other request is refused, counted, and logged by name.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import signal
import socket
import ssl
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import h11
import httpx

from symphony_fl.edge.admitted import Admitted, NotAdmitted
from symphony_fl.edge.wire import PIECE, STALL_SECONDS, Crowd, Gone, ProposalStats, Refused, Wire, group
from symphony_fl.launch.credential import FLEET_HEADER
from symphony_fl.storage.private import EdgeError, private_file

FLEET = "/v1/fleet/"
REQUESTS = (
    "activate-node",
    "deactivate-node",
    "send-node-heartbeat",
    "pull-messages",
    "push-messages",
    "get-run",
    "push-object",
    "pull-object",
    "confirm-message-received",
)
PATHS = frozenset((FLEET + name).encode() for name in REQUESTS)
MAX_BODY = 8 << 20  # bytes of a request; Flower cuts arrays into objects of 5 MiB
FIRST_SECONDS = 10.0  # for a handshake and a first request's head
IDLE_SECONDS = 30.0  # until the next request's head is there
REQUESTS_EACH, REQUESTS_ALL = 16, 128  # under way at once: of one key, of all
OPEN_FILES = 8192
HOP_BY_HOP = {b"connection", b"keep-alive", b"transfer-encoding", b"upgrade", b"server", b"date"}
TIMES = httpx.Timeout(connect=5.0, read=120.0, write=30.0, pool=10.0)
LIMITS = httpx.Limits(max_connections=REQUESTS_ALL, max_keepalive_connections=32, keepalive_expiry=2.0)


class FleetProxy:
    """Serves connections.

    Parameters
    ----------
    superlink : a client whose base is the SuperLink's address
    token : the proxy's credential at the SuperLink
    admitted : the devices whose requests are forwarded
    say : called with a message for each refusal to report
    """

    def __init__(
        self, superlink: httpx.AsyncClient, token: str, admitted: Admitted, say: Callable[[str], None]
    ) -> None:
        self.superlink = superlink
        self.admitted = admitted
        self.crowd = Crowd()
        self.tally = ProposalStats(say)
        self._own = [(FLEET_HEADER, token.encode()), (b"accept-encoding", b"identity")]
        self._under_way: Counter[bytes] = Counter()

    async def listen(self, listener: socket.socket, context: ssl.SSLContext) -> None:
        """Take connections, for ever."""
        loop = asyncio.get_running_loop()
        tasks: set[asyncio.Task[None]] = set()
        while True:
            try:
                taken, peer = await loop.sock_accept(listener)
            except OSError as error:  # no file is left to open, for now
                self.tally.count("not_accepted", "anybody", str(error))
                await asyncio.sleep(0.1)
                continue
            address = group(str(peer[0]))
            if not self.crowd.enter(address):
                self.tally.count("too_many_connections", address)
                taken.close()
                continue
            task = loop.create_task(self._connection(taken, address, context))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    async def _connection(self, taken: socket.socket, address: str, context: ssl.SSLContext) -> None:
        key: bytes | None = None
        wire: Wire | None = None
        orderly = False
        try:
            async with asyncio.timeout(FIRST_SECONDS):
                wire = await _handshake(taken, context)
                request = await wire.head()
            while True:
                signer = self._check(request)
                if key is None and self.crowd.know(address, signer):
                    key = signer
                if signer != key:
                    raise Refused("too_many_connections_of_a_key", 503)
                await self._hand_on(wire, request, signer)
                orderly = True
                if not wire.next():
                    return
                async with asyncio.timeout(IDLE_SECONDS):
                    request = await wire.head()
                orderly = False
        except Refused as refusal:
            orderly = False  # who is refused is not waited for
            self.tally.count(refusal.name, address, refusal.what)
            if wire is not None:
                await wire.refuse(refusal)
        except TimeoutError:
            if key is None:  # a device that has nothing to say does no wrong
                self.tally.count("head_too_slow", address)
        except (Gone, OSError):  # of which ssl.SSLError is one
            pass
        finally:
            self.crowd.leave(address, key)
            if wire is not None and orderly:
                wire.writer.close()
            elif wire is not None:  # a handshake that fails closes its socket itself
                wire.writer.transport.abort()

    def _check(self, request: h11.Request) -> bytes:
        """The admitted key a request is signed by. Raises Refused."""
        if request.method != b"POST" or request.target not in PATHS:
            raise Refused("not_on_the_list", 404, f"{request.method.decode()} {request.target.decode()}")
        try:
            signer = self.admitted.signer(list(request.headers))
        except NotAdmitted as error:
            raise Refused(error.name, error.status) from None
        for name, value in request.headers:
            if name == b"content-length" and int(value) > MAX_BODY:
                raise Refused("body_too_large", 413)
        return signer

    async def _hand_on(self, wire: Wire, request: h11.Request, key: bytes) -> None:
        """Stream a request to the SuperLink, and its answer back. Raises Refused as long as no answer has begun."""
        if self._under_way[key] >= REQUESTS_EACH or self._under_way.total() >= REQUESTS_ALL:
            raise Refused("too_many_requests", 503)
        self._under_way[key] += 1
        content = wire.body(MAX_BODY)
        try:
            async with self.superlink.stream(
                "POST", request.target.decode(), headers=self._headers(request), content=content
            ) as answer:
                headers = [item for item in answer.headers.raw if item[0].lower() not in HOP_BY_HOP]
                await wire.send(h11.Response(status_code=answer.status_code, headers=headers))
                async for piece in answer.aiter_raw(PIECE):
                    await wire.send(h11.Data(data=piece))
                await wire.send(h11.EndOfMessage())
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout):
            raise Refused("superlink_away", 503) from None
        except httpx.TimeoutException:
            raise Refused("superlink_too_slow", 504) from None
        except (httpx.HTTPError, h11.LocalProtocolError):
            raise Refused("superlink_broke_off", 502) from None
        finally:
            await content.aclose()
            self._under_way[key] -= 1
            self._under_way += Counter()  # forgets whom nothing is left of

    def _headers(self, request: h11.Request) -> list[tuple[bytes, bytes]]:
        """Flower's own, and what says how the body is to be read."""
        wanted = [
            (name, value)
            for name, value in request.headers
            if name in (b"content-type", b"accept") or name.startswith(b"flwr-")
        ]
        chunked = any(name == b"transfer-encoding" for name, _ in request.headers)
        length = [item for item in request.headers if item[0] == b"content-length" and not chunked]
        return [*wanted, *length, *self._own]


async def _handshake(taken: socket.socket, context: ssl.SSLContext) -> Wire:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=PIECE, loop=loop)
    protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
    transport, _ = await loop.connect_accepted_socket(
        lambda: protocol,
        taken,
        ssl=context,
        ssl_handshake_timeout=FIRST_SECONDS,
        ssl_shutdown_timeout=STALL_SECONDS,
    )
    return Wire(reader, asyncio.StreamWriter(transport, protocol, reader, loop))


async def serve(options: argparse.Namespace) -> None:
    """Until SIGTERM or Ctrl-C."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(options.certificate, options.key)
    host, _, port = options.listen.rpartition(":")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    token = private_file(options.credential, None).decode()
    trusted = ssl.create_default_context(cafile=str(options.superlink_authority))
    with socket.create_server((host.strip("[]"), int(port)), family=family, backlog=256) as listener:
        listener.setblocking(False)
        async with httpx.AsyncClient(
            base_url=f"https://{options.superlink}",
            verify=trusted,
            timeout=TIMES,
            limits=LIMITS,
            trust_env=False,
        ) as superlink:
            proxy = FleetProxy(superlink, token, Admitted(options.nodes), _say)
            task = asyncio.ensure_future(proxy.listen(listener, context))
            for sign in (signal.SIGTERM, signal.SIGINT):
                asyncio.get_running_loop().add_signal_handler(sign, task.cancel)
            _say(f"handing on the requests of admitted devices from {options.listen} to {options.superlink}")
            with suppress(asyncio.CancelledError):
                await task


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--listen", metavar="HOST:PORT", required=True)
    parser.add_argument("--certificate", metavar="FILE", type=Path, required=True, help="what devices see")
    parser.add_argument("--key", metavar="FILE", type=Path, required=True, help="its private key")
    parser.add_argument("--superlink", metavar="HOST:PORT", required=True)
    parser.add_argument("--superlink-authority", metavar="FILE", type=Path, required=True)
    parser.add_argument(
        "--credential", metavar="FILE", type=Path, required=True, help="what the SuperLink sees"
    )
    parser.add_argument("--nodes", metavar="DIR", type=Path, required=True, help="of admitted public keys")
    options = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = OPEN_FILES if most == resource.RLIM_INFINITY else min(OPEN_FILES, most)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, most))
    try:
        asyncio.run(serve(options))
    except (EdgeError, OSError) as error:  # ssl.SSLError is an OSError
        print(f"Error: {error}", file=sys.stderr)
        return 1
    return 0


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
