"""Flower's SuperNode, for a device that runs its installed code only.

    python -m clients.device.supernode ...    the options of `flower-supernode --isolation process`

Flower's SuperNode fetches a bundle (FAB) with every run, opens it for its configuration, and passes it to the process
that runs the ClientApp. This one never asks for a bundle. A run of the installed app is registered with the node before
Flower would look for one, and messages of any other run are answered with an error (`run_admission.py`). Only the
messages themselves configure the app.

Here the process ends with the node's loop, so that its supervisor restarts it. Flower's own process stays alive after
its loop has ended: the thread that serves the local API keeps it, and it never takes a message again. That happens, for
example, when a wrong clock makes a certificate look expired (seen with flwr 1.41). A connection that merely broke off
is tried again, see `clients/flower_patches/tls_retry.py`.
"""

from __future__ import annotations

import hashlib
import logging
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from flwr.app import Context, Error, Message, RecordDict
from flwr.app.user_config import UserConfig
from flwr.common import log
from flwr.common.constant import ErrorCode
from flwr.proto.message_pb2 import ObjectTree
from flwr.supercore.fab import Fab
from flwr.supercore.object_store import ObjectStore
from flwr.supercore.run import Run, RunNotRunningException
from flwr.supernode import start_client_internal as node
from flwr.supernode.nodestate import NodeState

from clients.device.run_admission import RunRefused, admit_run
from clients.flower_patches import internals as flower_internals
from clients.flower_patches.tls_retry import run_patiently
from symphony_fl.edge.frames import MAX_BODY
from symphony_fl.edge.refused_runs import count_refused_run

NO_FAB = Fab(hashlib.sha256(b"").hexdigest(), b"", {})
Received = tuple[Message, ObjectTree]


def main() -> int:
    """Entry point. Flower ends its processes by SystemExit where it means to; status 3 is for another Flower."""
    try:
        flower_internals.check()
    except flower_internals.UnknownFlower as error:
        print(error, file=sys.stderr)
        return 3
    sys.argv += ["--isolation", "process"]  # the last one given counts: Flower starts no process of its own
    node._pull_and_store_message = InstalledAppOnly(node._pull_and_store_message)  # type: ignore[assignment]  # noqa: SLF001
    run_patiently("flower-supernode")
    print("the SuperNode has given up its connection to the SuperLink", file=sys.stderr, flush=True)
    logging.shutdown()
    os._exit(1)  # other threads of Flower would go on


class InstalledAppOnly:
    """In place of Flower's function that pulls the next message: no bundle is fetched or opened.

    Flower's own follows for every admitted message. By then the node's state holds the run, so that Flower's branch for
    unknown runs, which fetches and opens the bundle, is never taken.

    Parameters
    ----------
    pull_and_store : Flower's function
    """

    def __init__(self, pull_and_store: Callable[..., int | None]) -> None:
        self._pull_and_store = pull_and_store

    def __call__(
        self,
        state: NodeState,
        object_store: ObjectStore,
        node_config: UserConfig,
        receive: Callable[[], Received | None],
        get_run: Callable[[int], Run],
        get_fab: Callable[[str, int], Fab],
        pull_object: Callable[[int, str], bytes],
        confirm_message_received: Callable[[int, str], None],
        trusted_entities: dict[str, str] | None,
    ) -> int | None:
        """The run of the next message, or None if there is none; arguments and result as of Flower's own."""
        received = receive()
        if received is None:
            return None
        message = received[0]
        run_id = message.metadata.run_id
        try:
            if state.get_run(run_id) is None:
                self._introduce(get_run(run_id), state, node_config)
        except RunNotRunningException:
            log(logging.INFO, "run %d has ended: message %s is ignored", run_id, message.metadata.message_id)
            return None
        except RunRefused as error:
            log(logging.WARNING, "run %d refused: %s", run_id, error)
            count_refused_run(_device(node_config), error.name)
            answer = Message(Error(ErrorCode.INVALID_FAB, str(error)), reply_to=message)
            node._insert_message(answer, state, object_store)  # noqa: SLF001
            return run_id
        return self._pull_and_store(
            state=state,
            object_store=object_store,
            node_config=node_config,
            receive=lambda: received,
            get_run=get_run,
            get_fab=_no_fab,
            pull_object=_bounded(pull_object),
            confirm_message_received=confirm_message_received,
            trusted_entities=None,
        )

    def _introduce(self, run: Run, state: NodeState, node_config: UserConfig) -> None:
        """Make a run of the installed app known to the node. Raises RunRefused for any other."""
        admit_run(run)
        context = Context(
            run_id=run.run_id,
            node_id=state.get_node_id(),
            node_config=node_config,
            state=RecordDict(),
            run_config={},
            series_id=run.series_id,
        )
        state.set_run_series_context(run.series_id, context)
        # The node's local API hands a bundle out with every task, and checks its hash: here that of no bytes.
        state.store_fab(NO_FAB)
        state.store_run(replace(run, fab_hash=NO_FAB.hash_str))


def _no_fab(fab_hash: str, run_id: int) -> Fab:
    raise RuntimeError(f"run {run_id}: Flower asks for a bundle, which a device never fetches")


def _bounded(pull_object: Callable[[int, str], bytes]) -> Callable[[int, str], bytes]:
    """The same for the objects of one message, which together are refused above MAX_BODY bytes."""
    pulled = 0

    def bounded(run_id: int, object_id: str) -> bytes:
        nonlocal pulled
        content = pull_object(run_id, object_id)
        pulled += len(content)
        if pulled > MAX_BODY:
            raise ValueError(f"run {run_id}: a message of more than {MAX_BODY} bytes")
        return content

    return bounded


def _device(node_config: dict[str, Any]) -> Path:
    """The device's folder: where the agent process's socket is."""
    return Path(str(node_config["socket"])).parent


if __name__ == "__main__":
    sys.exit(main())
