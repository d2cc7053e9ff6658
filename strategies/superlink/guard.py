"""Flower's SuperLink, which requires a credential from every client, also on loopback.

    python -m strategies.superlink.guard --operator FILE [--fleet FILE] -- ...    the options of `flower-superlink`
    python -m strategies.superlink.guard --check

Without Flower's commercial accounts, its SuperLink takes commands from any client that reaches its port: on loopback,
every user of the machine and every program. This module wraps its application before it is served. No part of it is
reached, and no body is read, without one of these:

    control    the operators' credential, which `flwr` sends as it would an account's token
    fleet      the proxy's (`symphony_fl/edge/fleet_proxy.py`), besides the node's own signature
    runtime    the token of a task that runs; to ask for one, Flower's own secret, which Flower checks
    health     nothing, and nothing is told

Everything else, the documentation included, is not served. This file uses the Flower internals that `known` imports, as
listed in `clients/flower_patches/internals.py`. If this version of Flower differs from the known one, nothing is
started, and no option overrides that.
"""

from __future__ import annotations

import argparse
import hmac
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from clients.flower_patches.internals import UnknownFlower, check_shapes
from symphony_fl.launch.credential import FLEET_HEADER
from symphony_fl.storage.private import EdgeError, private_file

CONTROL, FLEET, RUNTIME = "/v1/control/", "/v1/fleet/", "/v1/runtime/"
ACQUIRE = RUNTIME + "acquire-task"
MAX_ACQUIRE, MAX_RUNTIME = 64 << 10, 64 << 20  # bytes of a body
GRPC = ("FLWR_INTERNAL_GRPC_CONTROL_API", "FLWR_INTERNAL_GRPC_FLEET_API")  # doors without a guard


class Guard:
    """The application, of which only those who show what is due reach anything.

    Parameters
    ----------
    app : Flower's
    operator : the operators' credential
    fleet : the proxy's; None where no nodes are served
    is_task : whether a token is that of a task that runs
    """

    def __init__(
        self, app: ASGIApp, operator: bytes, fleet: bytes | None, is_task: Callable[[str], bool]
    ) -> None:
        self.app = app
        self.operator = b"Bearer " + operator
        self.fleet = fleet
        self.is_task = is_task

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        status = await self._refusal(scope) if scope["type"] == "http" else 404
        if status is None:
            await self.app(scope, receive, send)
            return
        # The connection is closed, so that what is left of the request is not read.
        refusal = JSONResponse({"detail": "refused"}, status, {"connection": "close"})
        await refusal(scope, receive, send)

    async def _refusal(self, scope: Scope) -> int | None:
        """The status to refuse a request by, from its path and headers alone; None if it may pass."""
        path, method = scope["path"], scope["method"]
        headers = [(name.lower(), value) for name, value in scope["headers"]]
        if path == "/health" and method in ("GET", "HEAD"):
            return 413 if _length(headers) else None
        if method != "POST":
            return 404
        if path.startswith(CONTROL):
            return None if _same(_only(headers, b"authorization"), self.operator) else 401
        if path.startswith(FLEET) and self.fleet is not None:
            return None if _same(_only(headers, FLEET_HEADER), self.fleet) else 401
        if path.startswith(RUNTIME):
            return await self._runtime(path, headers)
        return 404

    async def _runtime(self, path: str, headers: list[tuple[bytes, bytes]]) -> int | None:
        length = _length(headers)
        if length is None:
            return 411
        if path == ACQUIRE:
            return 413 if length > MAX_ACQUIRE else None
        token = _only(headers, b"flwr-task-token")
        if token is None or not await run_in_threadpool(self.is_task, token.decode("latin-1")):
            return 401
        return 413 if length > MAX_RUNTIME else None


@dataclass(frozen=True)
class Flower:
    """What of Flower's insides is used."""

    configuration: Callable[[], Any]
    create_app: Callable[..., Any]
    lifespan: type
    log_config: Callable[[int], dict[str, Any]]
    log_level: int


def known() -> Flower:
    """Flower's insides, after checking that they are as expected.

    Raises
    ------
    UnknownFlower
        Another version, or a name or argument is missing.
    """
    check_shapes("superlink")
    from flwr.supercore.http_logging import get_uvicorn_log_config
    from flwr.supercore.logger import console_handler
    from flwr.superlink.cli.flower_superlink import SuperLinkLifespan, _parse_superlink_lifespan_config
    from flwr.superlink.main import create_app

    return Flower(
        _parse_superlink_lifespan_config,
        create_app,
        SuperLinkLifespan,
        get_uvicorn_log_config,
        console_handler.level,
    )


def guarded(flower: Flower, config: Any, operator: bytes, fleet: bytes | None) -> Guard:
    """Flower's application behind its guard.

    Raises
    ------
    UnknownFlower
        It has not taken the secret that protects asking for tasks.
    """
    app = flower.create_app(config, flower.lifespan)
    if not config.superexec_auth_secret or app.state.superexec_auth_secret != config.superexec_auth_secret:
        raise UnknownFlower(
            "--superexec-auth-secret-file: Flower does not use it, so that anybody could take a task"
        )
    factory = app.state.runtime_state_factory
    return Guard(app, operator, fleet, lambda token: factory.state().get_task_by_token(token) is not None)


def main() -> int:
    """Entry point; with --check 0 if Flower's insides are as expected, 3 and the reason if not."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--operator", metavar="FILE", type=Path, help="the operators' credential")
    parser.add_argument(
        "--fleet", metavar="FILE", type=Path, help="the proxy's; without it no node is served"
    )
    parser.add_argument(
        "--check", action="store_true", help="only say whether this version of Flower is known"
    )
    cut = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    options = parser.parse_args(sys.argv[1:cut])
    sys.argv = ["flower-superlink", *sys.argv[cut + 1 :]]
    try:
        flower = known()
        if options.check:
            check_shapes("executor")
            return 0
        if options.operator is None:
            raise EdgeError("--operator: missing")
        unguarded = [name for name in GRPC if os.environ.get(name)]
        if unguarded:
            raise EdgeError(f"{unguarded[0]}: must not be set, it opens a port without a guard")
        operator = private_file(options.operator, None)
        fleet = None if options.fleet is None else private_file(options.fleet, None)
        config = flower.configuration()
        app = guarded(flower, config, operator, fleet)
    except (UnknownFlower, EdgeError) as error:
        print(f"Error: {error}", file=sys.stderr)
        return 3
    uvicorn.run(
        app,
        host=config.host,
        port=config.port,
        log_config=flower.log_config(flower.log_level),
        ssl_certfile=config.ssl_certfile,
        ssl_keyfile=config.ssl_keyfile,
        proxy_headers=False,
    )
    return 0


def _only(headers: list[tuple[bytes, bytes]], wanted: bytes) -> bytes | None:
    """The header's value, if it is there exactly once."""
    found = [value for name, value in headers if name == wanted]
    return found[0] if len(found) == 1 else None


def _length(headers: list[tuple[bytes, bytes]]) -> int | None:
    """The body's length in bytes; None if the request does not say it."""
    if any(name == b"transfer-encoding" for name, _ in headers):
        return None
    value = _only(headers, b"content-length")
    return int(value) if value is not None and value.isdigit() and len(value) < 16 else None


def _same(shown: bytes | None, due: bytes) -> bool:
    return shown is not None and hmac.compare_digest(shown, due)


if __name__ == "__main__":
    sys.exit(main())
