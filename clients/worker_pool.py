"""Processes that run the agents of one machine without Flower's or Ray's processes (`symphony run --in-process`).

    python -m clients.worker_pool SOCKET FOLDER

This process, the template, loads the libraries and the base model once. It receives sockets over the Unix socket with
descriptor SOCKET and forks one worker for each. A worker shares libraries and model copy-on-write. A worker serves any
agent: like Flower's simulation it calls our ClientApp with one message after another, and opens the agent from its
home for each.

A request's word is "NODE/KIND", a reply's is "ok" or "error" (`edge/frames.py`); bodies are message contents.
Both end as soon as the process that started the template is gone (`watchdog.py`), and when their socket is closed.

The template must not compute gradients: torch refuses to continue with them in a fork. So it loads no model that is
probed with gradients (4 bit) and none onto an accelerator. A model that does not exist yet is built by a child process.
"""

from __future__ import annotations

import gc
import os
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from logging import ERROR, WARNING
from pathlib import Path
from typing import NoReturn

from symphony_fl.launch.watchdog import die_with_launcher

MAX_REASON = 10_000  # characters of an error that travel


def main() -> None:
    """Entry point."""
    template, folder = socket.socket(fileno=int(sys.argv[1])), Path(sys.argv[2])
    die_with_launcher()
    gc.disable()  # a sixth of the loading, and it would write into what is shared
    _load(folder)
    gc.freeze()
    while True:
        _, descriptors, _, _ = socket.recv_fds(template, 1, 1)
        _reap(os.WNOHANG if descriptors else 0)
        if not descriptors:
            return
        worker = socket.socket(fileno=descriptors[0])
        if _is_child():
            template.close()
            gc.enable()
            die_with_launcher()  # threads are not forked
            _in_child(partial(serve, worker, folder))
        worker.close()


def serve(connection: socket.socket, folder: Path) -> None:
    """Answer messages until the other end is closed."""
    from flwr.app import Context, Message, RecordDict
    from flwr.common import log
    from flwr.supercore.task_identity import TaskIdentity

    from clients.client_app import app
    from clients.protocol.content import from_bytes, to_bytes
    from symphony_fl.edge.frames import ERROR as REFUSED
    from symphony_fl.edge.frames import OK, Disconnected, receive_frame, send_frame

    TaskIdentity.run_id = TaskIdentity.node_id = TaskIdentity.task_id = 1
    while True:
        try:
            word, body = receive_frame(connection)
        except Disconnected:
            return
        node, _, kind = word.partition("/")
        message = Message(from_bytes(body), int(node), kind)
        context = Context(1, int(node), {"partition-id": int(node)}, RecordDict(), {"run-dir": str(folder)})
        try:
            reply = OK, to_bytes(app(message, context).content)
        except Exception as error:  # Flower answers any failure of a ClientApp so
            log(ERROR, "agents of node %s: %s failed", node, kind, exc_info=error)
            reply = REFUSED, f"{type(error).__name__}: {error}"[:MAX_REASON].encode()
        send_frame(connection, *reply)


def _load(folder: Path) -> None:
    """What all workers share. A model that cannot be loaded is no failure here: its agents will say so.

    Elsewhere than on Linux, libraries under torch may not survive a fork once they were used.
    """
    from flwr.common import log

    import clients.service.service  # noqa: F401
    from symphony_fl.build.learners import recipe_policy
    from symphony_fl.config.recipe import recipe_from_json
    from symphony_fl.learning.model.base_model import ensure_built
    from symphony_fl.learning.model.model_check import ModelError

    recipe = recipe_from_json((folder / "recipe.json").read_text(encoding="utf-8"), files=True)
    if sys.platform != "linux" or recipe.model.quantization != "none" or recipe.model.device != "cpu":
        return
    if _is_child():
        _in_child(partial(ensure_built, recipe.model.name))
    built = os.wait()[1] == 0
    try:
        if built:
            recipe_policy(recipe)
    except ModelError as error:
        log(WARNING, "the model was not loaded: %s", error)


def _is_child() -> bool:
    sys.stdout.flush()
    sys.stderr.flush()
    return os.fork() == 0


def _in_child(work: Callable[[], None]) -> NoReturn:
    status = 1
    try:
        work()
        status = 0
    except (
        BaseException
    ) as error:  # a fork must end here, whatever happens; the template's stack is not its own
        from flwr.common import log

        log(ERROR, "a worker failed", exc_info=error)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _reap(options: int) -> None:
    """Take note of workers that have ended; with options 0, wait for all of them."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, options)[0]:
            pass


if __name__ == "__main__":
    main()
