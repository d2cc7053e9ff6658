"""Flower's executor of ClientApps, kept warm: a fork in place of a new process for every message.

    python -m clients.executor --runtime-api-address HOST:PORT --secret-file FILE

Under `flower-supernode --isolation process`, Flower leaves it to a `flower-superexec` beside the node to start a
`flwr-clientapp` for every message. That loads Flower each time: seconds, on any machine. This process loads Flower and
our thin ClientApp once, asks the node for tasks as `flower-superexec` does, and runs Flower's own `run_clientapp` in a
forked child, with the arguments `flwr-clientapp` would give it. So nothing of what Flower does with a message is done
differently (one pause is shorter), and a ClientApp that fails takes only its child with it.

Of Flower's insides this file uses what `_internals` imports; `python -m clients.executor --check` says whether this
version of Flower has them as expected. If not, `symphony up` says so and lets Flower start its own processes.

As the ClientApp is loaded before any bundle is seen, what runs on the device is the code installed there, not code
that came with a run.
"""

from __future__ import annotations

import argparse
import functools
import inspect
import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from logging import ERROR, INFO
from pathlib import Path
from typing import Any

from flwr.common import log

FLOWER = "1.41."  # the versions this was written against and is tested with
POLL_SECONDS = 0.1
PULL_SECONDS = 0.05  # before a message's missing parts are asked for once more, doubling
ARGUMENTS = (
    "runtime_api_address",
    "token",
    "insecure",
    "certificates",
    "parent_pid",
    "runtime_dependency_install",
)


class OtherFlower(RuntimeError):
    """This version of Flower is not the one whose insides we know; the message names the difference."""


@dataclass(frozen=True)
class Flower:
    """What of Flower's insides is used: one question and one function."""

    acquire: Callable[[], Any]
    run_clientapp: Callable[..., None]


def main() -> int:
    """Entry point; with --check 0 if Flower's insides are as expected, 3 and the reason if not."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--runtime-api-address", metavar="HOST:PORT", default="127.0.0.1:0")
    parser.add_argument("--secret-file", metavar="FILE", type=Path, help="the node's SuperExec secret")
    parser.add_argument(
        "--check", action="store_true", help="only say whether this version of Flower is known"
    )
    options = parser.parse_args()
    try:
        secret = options.secret_file.read_bytes() if options.secret_file else b"check"
        flower = _internals(options.runtime_api_address, secret)
    except OtherFlower as error:
        print(error, file=sys.stderr)
        return 3
    if not options.check:
        import clients.client_app  # noqa: F401  loaded once, for all children

        serve(flower, options.runtime_api_address)
    return 0


def serve(flower: Flower, address: str) -> None:
    """Fork a child for every task of the node at `address`, for ever. Starts no thread: forks copy none."""
    log(INFO, "executor: asking %s for messages", address)
    while True:
        answer = flower.acquire()
        if answer.HasField("task") and answer.token:
            _fork(flower, address, answer.token)
        else:
            time.sleep(POLL_SECONDS)
        _reap()


def _fork(flower: Flower, address: str, token: str) -> None:
    parent = os.getpid()
    if os.fork():
        return
    status = 1
    try:
        flower.run_clientapp(
            runtime_api_address=address,
            token=token,
            insecure=True,  # loopback, on a port that only tokens open
            certificates=None,
            parent_pid=parent,
            runtime_dependency_install=False,
        )
    except SystemExit as end:  # how Flower ends its processes
        status = end.code if isinstance(end.code, int) else 1
    except BaseException as error:  # a child must end here, whatever happens
        log(ERROR, "executor: a ClientApp failed", exc_info=error)
    finally:
        with suppress(OSError):  # the log may lie on a full disk; the child must end here all the same
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def _reap() -> None:
    """Take note of children that have ended, and of what they took."""
    try:
        while True:
            child, _, used = os.wait4(-1, os.WNOHANG)
            if not child:
                return
            log(INFO, "executor: a message took %.2f s of processor time", used.ru_utime + used.ru_stime)
    except ChildProcessError:
        return


def _internals(address: str, secret: bytes) -> Flower:
    """The parts of Flower used here, after checking that they are as expected.

    Raises
    ------
    OtherFlower
        Another version, or a name or argument is missing.
    """
    if not version("flwr").startswith(FLOWER):
        raise OtherFlower(f"flwr {version('flwr')}: the warm executor knows {FLOWER}x")
    try:
        from flwr.proto.runtime_pb2 import AcquireTaskRequest
        from flwr.supercore.constant import TaskType
        from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor, SuperExecAuthHttpInterceptor
        from flwr.supercore.retry import make_simple_http_retry_invoker
        from flwr.supercore.runtime import RuntimeHttpClient
        from flwr.supernode.runtime import run_clientapp as module
        from flwr.supernode.runtime.run_clientapp import (  # type: ignore[attr-defined]
            pull_and_inflate_object_from_tree as pull,
        )
        from flwr.supernode.runtime.run_clientapp import run_clientapp
    except ImportError as error:
        raise OtherFlower(f"flwr {version('flwr')}: {error}") from None
    missing = set(ARGUMENTS) ^ set(inspect.signature(run_clientapp).parameters)
    if missing:
        raise OtherFlower(
            f"flwr {version('flwr')}: run_clientapp's arguments differ: {', '.join(sorted(missing))}"
        )
    if "initial_backoff" not in inspect.signature(pull).parameters:
        raise OtherFlower(f"flwr {version('flwr')}: pulling objects takes no initial_backoff")
    # A fork asks for the message while the node is still fetching it; Flower would then wait a whole second.
    module.pull_and_inflate_object_from_tree = functools.partial(pull, initial_backoff=PULL_SECONDS)  # type: ignore[attr-defined]
    client = RuntimeHttpClient.from_server_address(
        server_address=address,
        insecure=True,
        root_certificates=None,
        interceptors=[
            RuntimeVersionHttpInterceptor(component_name="SuperExec"),
            SuperExecAuthHttpInterceptor(
                master_secret=secret, protected_methods=frozenset({"/flwr.proto.Runtime/AcquireTask"})
            ),
        ],
        retry_invoker=make_simple_http_retry_invoker(),
    )
    request = AcquireTaskRequest(supported_task_types=[TaskType.CLIENT_APP])
    return Flower(lambda: client.AcquireTask(request), run_clientapp)


if __name__ == "__main__":
    sys.exit(main())
