"""Runs the installed ClientApp for the messages of a device's SuperNode: one forked child per message.

    python -m clients.device.warm_executor --runtime-api-address HOST:PORT --secret-file FILE

Under `flower-supernode --isolation process`, Flower leaves it to a `flower-superexec` beside the node to start a
`flwr-clientapp` for every message. That process loads Flower each time, which takes seconds, and then installs and
imports the bundle (FAB) that came with the run. This one loads Flower and the installed ClientApp once, asks the node
for tasks as `flower-superexec` does, and answers each in a forked child. It pulls and pushes by Flower's own functions
and opens no bundle: the code that runs is the code installed here. A ClientApp that fails takes only its child with it.

What is used of Flower beyond its public interface is listed, and checked at the start, by `internals.py`.
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from logging import ERROR, INFO
from pathlib import Path
from typing import Any

from flwr.app import Error, Message
from flwr.clientapp import ClientApp
from flwr.common import log
from flwr.common.constant import ErrorCode, SubStatus
from flwr.proto.runtime_pb2 import AcquireTaskRequest
from flwr.supercore.app_utils import start_parent_process_monitor
from flwr.supercore.constant import TaskType
from flwr.supercore.heartbeat import HeartbeatSender, make_task_heartbeat_fn_http
from flwr.supercore.interceptors import (
    RuntimeTokenHttpInterceptor,
    RuntimeVersionHttpInterceptor,
    SuperExecAuthHttpInterceptor,
)
from flwr.supercore.retry import make_simple_http_retry_invoker
from flwr.supercore.runtime import RuntimeHttpClient
from flwr.supernode.runtime import run_clientapp as flower

from clients.device.run_admission import admit_run
from clients.flower_patches import internals as flower_internals

POLL_SECONDS = 0.1
PULL_SECONDS = 0.05  # before a message's missing parts are asked for once more, doubling


def main() -> int:
    """Entry point; 3 and the reason where Flower is not the one we know."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--runtime-api-address", metavar="HOST:PORT", required=True)
    parser.add_argument(
        "--secret-file", metavar="FILE", type=Path, required=True, help="the node's SuperExec secret"
    )
    options = parser.parse_args()
    try:
        flower_internals.check()
    except flower_internals.UnknownFlower as error:
        print(error, file=sys.stderr)
        return 3
    from clients.client_app import app  # loaded once, for all children

    # A fork asks for the message while the node is still fetching it; Flower would then wait a whole second.
    pull = flower.pull_and_inflate_object_from_tree  # type: ignore[attr-defined]
    flower.pull_and_inflate_object_from_tree = partial(pull, initial_backoff=PULL_SECONDS)  # type: ignore[attr-defined]
    serve(options.runtime_api_address, options.secret_file.read_bytes(), app)
    return 0


def serve(address: str, secret: bytes, app: ClientApp) -> None:
    """Fork a child for every task of the node at `address`, for ever. Starts no thread: forks copy none."""
    acquire = _task_source(address, secret)
    log(INFO, "executor: asking %s for messages", address)
    while True:
        answer = acquire()
        if answer.HasField("task") and answer.token:
            _fork(partial(answer_task, address, answer.token, app, os.getpid()))
        else:
            time.sleep(POLL_SECONDS)
        _reap()


def answer_task(address: str, token: str, app: ClientApp, parent: int) -> None:
    """What `flwr-clientapp` does with a task, less the bundle: pull the message, call the app, push its reply.

    Parameters
    ----------
    address : of the SuperNode's local API
    token : of the task
    app : the installed one
    parent : this process ends when that one does
    """
    start_parent_process_monitor(parent)
    client = _client(
        address, [RuntimeVersionHttpInterceptor("flwr-clientapp"), RuntimeTokenHttpInterceptor(token)]
    )
    heartbeat = HeartbeatSender(make_task_heartbeat_fn_http(client))
    heartbeat.start()
    message, context, run, _ = flower.pull_task_input(client)
    status, details = SubStatus.COMPLETED, ""
    try:
        admit_run(run)
        reply = app(message, context)
    except Exception as error:  # as Flower does: whatever a ClientApp raises is the reply
        log(ERROR, "executor: the ClientApp failed", exc_info=error)
        status, details = SubStatus.FAILED, f"{type(error).__name__}: {error}"
        reply = Message(Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, details), reply_to=message)
    flower.push_message(client, reply, context)
    flower.push_task_output(client=client, context=context, sub_status=status, details=details)
    heartbeat.stop()
    client.close()


def _fork(work: Callable[[], None]) -> None:
    """Do the work in a child process, which ends whatever happens."""
    assert threading.active_count() == 1, "a fork copies one thread only"
    if os.fork():
        return
    status = 1
    try:
        work()
        status = 0
    except BaseException as error:  # a child must end here
        log(ERROR, "executor: a message was not answered", exc_info=error)
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


def _task_source(address: str, secret: bytes) -> Callable[[], Any]:
    """A function that asks the node for its next task of a ClientApp."""
    auth = SuperExecAuthHttpInterceptor(
        master_secret=secret, protected_methods=frozenset({"/flwr.proto.Runtime/AcquireTask"})
    )
    client = _client(address, [RuntimeVersionHttpInterceptor(component_name="SuperExec"), auth])
    return partial(client.AcquireTask, AcquireTaskRequest(supported_task_types=[TaskType.CLIENT_APP]))


def _client(address: str, interceptors: list[Any]) -> RuntimeHttpClient:
    """Of the node's local API: loopback, on a port that only tokens open, so without TLS."""
    return RuntimeHttpClient.from_server_address(
        server_address=address,
        insecure=True,
        root_certificates=None,
        interceptors=interceptors,
        retry_invoker=make_simple_http_retry_invoker(),
    )


if __name__ == "__main__":
    sys.exit(main())
