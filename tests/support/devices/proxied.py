"""The fleet's proxy before a server of ours, which notes what reaches it; and requests as SuperNodes sign them."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_ssh_private_key
from flwr.supercore.protobuf.client import ProtobufRequestContext
from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor

from symphony_fl.edge.admitted import Admitted
from symphony_fl.edge.fleet_proxy import FleetProxy
from symphony_fl.edge.keys import certificates, node_key

PULL = "/v1/fleet/pull-messages"
PUSH = "/v1/fleet/push-object"
TOKEN = "t" * 64


def new_node(folder: Path) -> ec.EllipticCurvePrivateKey:
    """The key of a device with this folder."""
    folder.mkdir(parents=True, exist_ok=True)
    private, _ = node_key(folder)
    key = load_ssh_private_key(private.read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key


def signed(key: ec.EllipticCurvePrivateKey) -> dict[str, str]:
    """The headers that Flower's SuperNode adds, by its own code."""
    request = httpx.Request("POST", "https://superlink")
    context = ProtobufRequestContext(rpc_method="", message=None, request=request)  # type: ignore[arg-type]
    NodeAuthHttpInterceptor(key, key.public_key()).intercept(context, lambda _: httpx.Response(200))
    return {name: value for name, value in request.headers.items() if name.startswith("flwr-")}


@dataclass
class Reached:
    """One request as the server behind the proxy saw it."""

    path: str
    headers: dict[bytes, bytes]
    size: int = 0
    whole: bool = False
    begun: asyncio.Event = field(default_factory=asyncio.Event)


class Behind:
    """What stands in for the SuperLink: an ASGI application that answers with `answer` pieces of 64 KiB."""

    def __init__(self) -> None:
        self.reached: list[Reached] = []
        self.answer = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        seen = Reached(scope["path"], dict(scope["headers"]))
        self.reached.append(seen)
        while not seen.whole:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            seen.size += len(message.get("body", b""))
            if seen.size:
                seen.begun.set()
            seen.whole = not message.get("more_body", False)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"x/y")]})
        for _ in range(self.answer):
            await send({"type": "http.response.body", "body": bytes(1 << 16), "more_body": True})
        await send({"type": "http.response.body", "body": str(seen.size).encode()})


@dataclass
class World:
    """A proxy that runs, what is behind it, and how to reach it."""

    proxy: FleetProxy
    behind: Behind
    server: uvicorn.Server
    port: int
    context: ssl.SSLContext
    nodes: Path
    said: list[str]
    folder: Path

    def client(self) -> httpx.AsyncClient:
        """One that trusts the network's authority."""
        return httpx.AsyncClient(base_url=f"https://127.0.0.1:{self.port}", verify=self.context, timeout=20)

    def admit(self, name: str) -> ec.EllipticCurvePrivateKey:
        """A new device, whose key is in nodes/."""
        key = new_node(self.folder / name)
        (self.nodes / f"{name}.pub").write_bytes((self.folder / name / "node.pub").read_bytes())
        return key

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection of bytes, beyond the handshake."""
        return await asyncio.open_connection(
            "127.0.0.1", self.port, ssl=self.context, server_hostname="localhost"
        )


@asynccontextmanager
async def world(folder: Path) -> AsyncGenerator[World, None]:
    """Everything in one event loop, over real TLS connections."""
    inner, outer, nodes = folder / "inner", folder / "outer", folder / "nodes"
    for made in (inner, outer, nodes):
        made.mkdir(mode=0o700)
    authority, certificate, key = certificates(inner, [])
    shown = certificates(outer, [])
    behind, said = Behind(), list[str]()
    taken = _listener()
    server = uvicorn.Server(
        uvicorn.Config(
            behind, log_level="warning", ssl_certfile=str(certificate), ssl_keyfile=str(key), lifespan="off"
        )
    )
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(shown[1], shown[2])
    listener = _listener()
    address = f"https://127.0.0.1:{taken.getsockname()[1]}"
    async with httpx.AsyncClient(
        base_url=address,
        verify=ssl.create_default_context(cafile=str(authority)),
        timeout=20,
        trust_env=False,
    ) as superlink:
        proxy = FleetProxy(superlink, TOKEN, Admitted(nodes), said.append)
        tasks = [
            asyncio.ensure_future(server.serve(sockets=[taken])),
            asyncio.ensure_future(proxy.listen(listener, context)),
        ]
        while not server.started:
            await asyncio.sleep(0.01)
        trust = ssl.create_default_context(cafile=str(shown[0]))
        try:
            yield World(proxy, behind, server, listener.getsockname()[1], trust, nodes, said, folder)
        finally:
            tasks[1].cancel()
            server.should_exit = server.force_exit = True
            await asyncio.gather(*tasks, return_exceptions=True)
            listener.close()


def _listener() -> socket.socket:
    listener = socket.create_server(("127.0.0.1", 0), backlog=256)
    listener.setblocking(False)
    return listener
