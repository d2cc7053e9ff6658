"""What the world can do at a network's port: real TLS connections to the proxy, and what of them gets through."""

from __future__ import annotations

import asyncio
import datetime
import shutil
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path

import httpx
import psutil
import pytest
from flwr.superlink.routers.fleet import node_auth
from flwr.superlink.routers.fleet.router import router
from proxied import PULL, PUSH, TOKEN, World, new_node, signed, world

from symphony_fl.edge import admitted, fleet_proxy, wire

Scenario = Callable[[World], Awaitable[None]]


@pytest.fixture
def play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Scenario], None]:
    """Run one against a proxy of its own, whose looks into the folder come at once."""
    monkeypatch.setattr(admitted, "LOOK_SECONDS", 0.0)

    def run(scenario: Scenario) -> None:
        async def all_of_it() -> None:
            async with world(tmp_path) as made:
                await scenario(made)

        asyncio.run(asyncio.wait_for(all_of_it(), 30))

    return run


def test_the_list_is_what_a_node_with_a_key_asks_of_flowers_fleet() -> None:
    """Registering is for nodes without a key; a device never fetches a bundle."""
    flowers = {route.path for route in router.routes}  # type: ignore[attr-defined]
    ours = {path.decode() for path in fleet_proxy.PATHS}
    left_out = {"register-node", "unregister-node", "get-fab"}
    assert flowers - ours == {f"/v1/fleet/{name}" for name in left_out} and ours < flowers
    assert admitted.OLDEST == node_auth.TIMESTAMP_TOLERANCE + node_auth.SYSTEM_TIME_TOLERANCE
    assert admitted.AHEAD == node_auth.SYSTEM_TIME_TOLERANCE
    names = (
        node_auth.FLEET_HTTP_PUBLIC_KEY_HEADER,
        node_auth.TIMESTAMP_HEADER,
        node_auth.FLEET_HTTP_SIGNATURE_HEADER,
    )
    ours_named = admitted.KEY_HEADER, admitted.TIME_HEADER, admitted.SIGNATURE_HEADER
    assert tuple(name.encode() for name in names) == ours_named


def test_a_devices_request_gets_through_as_a_stream_and_with_the_proxys_credential(
    play: Callable[[Scenario], None],
) -> None:
    async def scenario(made: World) -> None:
        key = made.admit("a")
        go_on = asyncio.Event()

        async def body() -> AsyncGenerator[bytes, None]:
            yield bytes(100_000)
            await go_on.wait()
            yield bytes(50_000)

        made.behind.answer = 100
        headers = signed(key) | {
            "symphony-fleet": "mine",
            "authorization": "Bearer x",
            "x-forwarded-for": "1.1.1.1",
        }
        async with made.client() as client:
            asked = asyncio.ensure_future(client.post(PUSH, headers=headers, content=body()))
            while not made.behind.reached:
                await asyncio.sleep(0.01)
            (seen,) = made.behind.reached
            await seen.begun.wait()
            assert not seen.whole, "the first bytes are there before the last have left"
            go_on.set()
            answer = await asked
            assert answer.status_code == 200 and len(answer.content) == 100 * (1 << 16) + len("150000")
            again = await client.post(PULL, headers=signed(key), content=b"abc")
            assert again.content.endswith(b"3")
        assert seen.headers[b"symphony-fleet"] == TOKEN.encode()
        assert b"authorization" not in seen.headers and b"x-forwarded-for" not in seen.headers
        assert seen.path == PUSH and made.proxy.tally.counts == {}

    play(scenario)


def test_whatever_is_not_on_the_list_never_reaches_the_superlink(play: Callable[[Scenario], None]) -> None:
    """Though an admitted device asks: by other paths, spellings and methods."""

    async def scenario(made: World) -> None:
        headers = signed(made.admit("a"))
        others = [
            ("POST", "/v1/control/start-run"),
            ("POST", "/v1/runtime/acquire-task"),
            ("GET", "/docs"),
            ("POST", "/v1/fleet/register-node"),
            *((method, PULL) for method in ("GET", "HEAD", "OPTIONS", "PUT")),
            *(("POST", PULL + end) for end in ("/", "?a=b", "/../../control/start-run")),
            ("POST", "//v1/fleet/pull-messages"),
            ("POST", "/v1/fleet/%70ull-messages"),
            ("POST", "/v1/fleet/../control/start-run"),
            ("POST", "https://superlink/v1/fleet/pull-messages"),
            ("POST", "*"),
        ]
        for method, target in others:
            reader, writer = await made.connect()
            lines = [f"{method} {target} HTTP/1.1", "host: x", *(f"{n}: {v}" for n, v in headers.items())]
            writer.write(("\r\n".join([*lines, "content-length: 0", "", ""])).encode())
            status = (await reader.readline()).split()[1]
            assert status == b"404", (method, target, status)
            writer.close()
        assert made.behind.reached == [] and made.proxy.tally.counts == {"not_on_the_list": len(others)}
        assert len(made.said) == 1, "told of once, not sixteen times"

    play(scenario)


def test_who_is_not_admitted_is_refused_before_a_byte_of_the_body_is_handed_on(
    play: Callable[[Scenario], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(made: World) -> None:
        inside, outside = made.admit("a"), new_node(made.folder / "b")
        good = signed(inside)
        later = (datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=30)).isoformat()
        bad = {
            "unsigned": {},
            "key_not_admitted": signed(outside),
            "forged_signature": signed(outside) | {"flwr-public-key": good["flwr-public-key"]},
            "unreadable_signature": good | {"flwr-public-key": "%%%"},
            "clock_differs": good | {"flwr-timestamp": later},
        }
        expected = {"key_not_admitted": 412}
        for name, headers in bad.items():
            async with made.client() as client:
                answer = await client.post(PUSH, headers=headers, content=bytes(3 << 20))
            assert answer.json() == {"detail": name} and answer.status_code == expected.get(name, 401)
        naive = good | {"flwr-timestamp": datetime.datetime.now().isoformat()}
        twice = [*good.items(), ("flwr-public-key", good["flwr-public-key"])]
        async with made.client() as client:
            assert (await client.post(PULL, headers=naive)).json() == {"detail": "unreadable_signature"}
            assert (await client.post(PULL, headers=twice)).json() == {"detail": "unsigned"}
            assert made.behind.reached == []
            assert (await client.post(PULL, headers=good)).status_code == 200
            (made.nodes / "a.pub").unlink()
            assert (await client.post(PULL, headers=good)).json() == {"detail": "key_not_admitted"}
            shutil.copy(made.folder / "b" / "node.pub", made.nodes / "b.pub")
            assert (await client.post(PULL, headers=signed(outside))).status_code == 200

    play(scenario)


def test_a_body_over_the_limit_is_refused_at_once_or_cut(
    play: Callable[[Scenario], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet_proxy, "MAX_BODY", 1 << 20)

    async def scenario(made: World) -> None:
        key, sent = made.admit("a"), 0

        async def endless() -> AsyncGenerator[bytes, None]:
            nonlocal sent
            while True:
                sent += 1 << 16
                yield bytes(1 << 16)

        async with made.client() as client:
            answer = await client.post(PUSH, headers=signed(key), content=bytes((1 << 20) + 1))
            assert answer.status_code == 413 and made.behind.reached == []
            assert (await client.post(PUSH, headers=signed(key), content=bytes(1 << 20))).status_code == 200
            try:
                assert (await client.post(PUSH, headers=signed(key), content=endless())).status_code == 413
            except httpx.TransportError:
                pass  # cut while it was still sending
        assert sent < 20 << 20, "it was not read to its end, which never comes"
        await asyncio.sleep(0.1)
        assert not made.behind.reached[1].whole, "the SuperLink never sees it whole"
        assert made.behind.reached[1].size <= 1 << 20 and made.proxy.tally.counts == {"body_too_large": 2}

    play(scenario)


def test_who_is_slow_is_dropped_and_holds_nothing(
    play: Callable[[Scenario], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet_proxy, "FIRST_SECONDS", 0.7)
    monkeypatch.setattr(wire, "STALL_SECONDS", 0.5)
    monkeypatch.setattr(wire, "GRACE_SECONDS", 1.0)

    async def scenario(made: World) -> None:
        key = made.admit("a")
        head = "\r\n".join(
            [
                f"POST {PUSH} HTTP/1.1",
                "host: x",
                "content-length: 1000",
                *(f"{n}: {v}" for n, v in signed(key).items()),
            ]
        )
        before = psutil.Process().num_fds()

        async def trickle(data: bytes, pause: float) -> bytes:
            """What is answered to bytes that come one by one."""
            reader, writer = await made.connect()
            answer = asyncio.ensure_future(reader.read(12))
            for byte in data:
                if answer.done():
                    break
                try:
                    writer.write(bytes([byte]))
                    await asyncio.sleep(pause)
                except OSError:
                    break
            try:
                return await asyncio.wait_for(answer, 5)
            except OSError:
                return b""
            finally:
                writer.transport.abort()

        async def mute() -> bytes:
            """No handshake at all."""
            reader, writer = await asyncio.open_connection("127.0.0.1", made.port)
            try:
                return await asyncio.wait_for(reader.read(12), 5)
            except OSError:
                return b""
            finally:
                writer.close()

        async def body(pieces: int) -> bytes:
            reader, writer = await made.connect()
            writer.write((head + "\r\n\r\n").encode())
            for _ in range(pieces):
                writer.write(b"x")
                await asyncio.sleep(0.2)
            try:
                return await asyncio.wait_for(reader.read(12), 5)
            finally:
                writer.transport.abort()

        answers = await asyncio.gather(
            *(trickle(b"POST / HTTP/1.1\r\n" + b"a" * 1000, 0.05) for _ in range(5)),
            *(trickle(b"", 0) for _ in range(5)), *(mute() for _ in range(5)), body(1), body(10),
        )  # fmt: skip
        assert answers == [b""] * 15 + [b"HTTP/1.1 408"] * 2
        assert made.proxy.tally.counts == {"head_too_slow": 15, "body_stalled": 1, "body_too_slow": 1}
        await asyncio.sleep(0.3)
        assert psutil.Process().num_fds() <= before + 4 and made.proxy.crowd.empty
        async with made.client() as client:
            assert (await client.post(PULL, headers=signed(key))).status_code == 200

    play(scenario)


def test_strangers_are_few_and_take_no_devices_place(
    play: Callable[[Scenario], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "STRANGERS_EACH", 4)
    monkeypatch.setattr(wire, "KNOWN_EACH", 2)
    monkeypatch.setattr(fleet_proxy, "REQUESTS_EACH", 1)

    async def scenario(made: World) -> None:
        key = made.admit("a")
        clients = [made.client() for _ in range(3)]
        assert [(await client.post(PULL, headers=signed(key))).status_code for client in clients] == [
            200,
            200,
            503,
        ]
        strangers = [await made.connect() for _ in range(4)]
        with pytest.raises(OSError):
            await made.connect()
        assert (await clients[0].post(PULL, headers=signed(key))).status_code == 200, (
            "it has its place already"
        )

        async def slowly() -> AsyncGenerator[bytes, None]:
            yield b"x"
            await asyncio.sleep(0.5)

        both = await asyncio.gather(
            *(client.post(PUSH, headers=signed(key), content=slowly()) for client in clients[:2])
        )
        assert sorted(answer.status_code for answer in both) == [200, 503]
        for _, writer in strangers:
            writer.transport.abort()
        for client in clients:
            await client.aclose()
        counts = made.proxy.tally.counts
        assert counts["too_many_connections"] == 1 and counts["too_many_connections_of_a_key"] == 1
        assert counts["too_many_requests"] == 1

    play(scenario)


@pytest.mark.parametrize(
    "sent",
    [
        b"\x00\x01\x02\r\n\r\n",
        b"GET / HTTP/9\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\n" + b"a: b\r\n" * 100_000,
        b"POST /" + b"a" * 1_000_000,
    ],
)
def test_what_is_no_request_is_refused(play: Callable[[Scenario], None], sent: bytes) -> None:
    async def scenario(made: World) -> None:
        reader, writer = await made.connect()
        writer.write(sent)
        try:
            status = int((await reader.readline()).split()[1])
            assert 400 <= status < 500
        except (OSError, IndexError):
            pass  # cut while it was still sending
        writer.transport.abort()
        assert made.proxy.tally.counts.total() == 1 and made.behind.reached == []

    play(scenario)


def test_while_the_superlink_is_away_devices_are_told_to_come_again(play: Callable[[Scenario], None]) -> None:
    """Of the statuses, Flower's node tries again after 502, 503 and 504 only."""

    async def scenario(made: World) -> None:
        key = made.admit("a")
        async with made.client() as client:
            assert (await client.post(PULL, headers=signed(key))).status_code == 200
            made.server.should_exit = made.server.force_exit = True
            await asyncio.sleep(0.5)
            assert (await client.post(PULL, headers=signed(key))).status_code in (502, 503)
            assert (await client.post(PULL, headers=signed(key))).status_code == 503

    play(scenario)
