"""The parts of Flower that have no public interface and on which a device relies, and whether they are as expected.

    python -m clients.flower_patches.internals    exit status 0 if they are; 3, and the difference in one line, if not

A device replaces Flower's handling of app bundles (FABs), so that only the code installed on it runs
(`clients/device/`). A replacement that no longer fits would open the device. So there is no fallback: `symphony up` and
both programs refuse to start with a version of Flower whose relied-on functions differ from those that were read.

The programs around Flower's SuperLink (`strategies/superlink/`) replace or call less, from outside: for them names,
arguments and fields are compared (`SHAPES`).
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import sys
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

FLOWER = "1.42."  # prefix of the versions this was written against
MODULES = {
    "node": "flwr.supernode.start_client_internal",
    "command": "flwr.supernode.cli.flower_supernode",
    "app": "flwr.supernode.runtime.run_clientapp",
    "pull": "flwr.supercore.inflatable.inflatable_utils",
    "retry": "flwr.supercore.retry",
    "runtime": "flwr.supernode.servicer.runtime.runtime_handlers",
}
# SHA-256 of the source of every function that is replaced, wrapped or called outside Flower's public interface.
SOURCES = {
    ("node", "start_client_internal"): "9e89a6eb68fbec6821e817cd2c09f7894fc7b0f5725c2365b19a7122307f11f3",
    ("node", "_pull_and_store_message"): "eaf5d0e36dc34e4cf46a490511d077ac55cc8edbbcdbe938c1f6dbcb758628be",
    ("node", "_push_messages"): "00bb86faffdec114db87e7f716af2acd901d12284e44f51f5c2a84704db05f64",
    ("node", "_insert_message"): "a0c6f4605e993f04cf4774c215b0322db5d80de1b3b564e79af112c909908d21",
    ("command", "flower_supernode"): "e263e10452076b0062e28433cca5d75a552a8a32635ac38a0101d7678231ddaf",
    (
        "command",
        "_start_supernode_http_api",
    ): "b2832210a0cad93a6334907011f65796dd5a096477f0afbfb966e831c17ef9de",
    ("app", "pull_task_input"): "5607a23e1673ee876930c1b35685b8dfdfd8b3776a436560b0467042e15fc695",
    ("app", "push_message"): "07cb512c93e065a93a4cba3facc7d37dd99758c56835065a63fdfbfc604dcd8a",
    ("app", "push_task_output"): "9206407456e79e17338d367de7c21e2d840d939de378c03ac61da6cc2b57a3c6",
    (
        "pull",
        "pull_and_inflate_object_from_tree",
    ): "139811483a15e4a6c1f8523614c12f28dd3049194e5713816be0931387adb1cf",
    (
        "retry",
        "make_simple_http_retry_invoker",
    ): "49e12326a4b17e2648852ef33922c41f7b4a7302d43a5afc2a2e9830b7ab801a",
    ("runtime", "pull_task_input"): "035e6c69a7cffcad980d6a38af68941151a7f6979031638d7cb28c5431df4d3d",
}


@dataclass(frozen=True)
class Shape:
    """A name of Flower's that is used, and what of it: `arguments` of a function, or `fields` of a dataclass, at least.
    None: whatever it is, it must be there."""

    module: str
    name: str
    arguments: tuple[str, ...] | None = None
    fields: tuple[str, ...] | None = None


_EXECUTOR = "flwr.supercore.superexec.executor"
SHAPES = {
    "superlink": (
        Shape("flwr.supercore.corestate", "CoreState.get_task_by_token"),
        Shape("flwr.supercore.http_logging", "get_uvicorn_log_config"),
        Shape("flwr.supercore.logger", "console_handler"),
        Shape("flwr.superlink.cli.flower_superlink", "SuperLinkLifespan"),
        Shape("flwr.superlink.cli.flower_superlink", "_parse_superlink_lifespan_config"),
        Shape(
            "flwr.superlink.config_loader",
            "SuperLinkLifespanConfig",
            fields=(
                "host", "port", "ssl_certfile", "ssl_keyfile", "superexec_auth_secret", "isolation", "insecure",
            ),
        ),
        Shape("flwr.superlink.main", "create_app", arguments=("config", "superlink_lifespan_class")),
    ),
    "executor": (
        Shape(
            _EXECUTOR,
            "ExecutionSpec",
            fields=(
                "task_type", "runtime_api_address", "token", "insecure", "root_certificates_path", "parent_pid",
                "suppress_output",
            ),
        ),
        Shape(_EXECUTOR, "LaunchResult"),
        Shape(_EXECUTOR, "SubprocessExecutor.launch", arguments=("self", "spec")),
        Shape(_EXECUTOR, "SubprocessExecutor.reconcile", arguments=("self",)),
    ),
}  # fmt: skip
"""What each program around the SuperLink uses."""


class UnknownFlower(RuntimeError):
    """The installed Flower is not the one whose internals we know; the message names the difference."""


def check() -> None:
    """Compare the installed Flower with the one this was written against.

    Raises
    ------
    UnknownFlower
        Another version, or a function is missing or has another source.
    """
    installed = _known_version("devices run")
    for (module, name), known in SOURCES.items():
        if source_digest(module, name) != known:
            raise UnknownFlower(
                f"flwr {installed}: {MODULES[module]}.{name} differs from the one that devices rely on"
            )


def check_shapes(program: str) -> None:
    """Compare what a program around the SuperLink uses, `SHAPES[program]`, with the installed Flower.

    Raises
    ------
    UnknownFlower
        Another version, or a name is missing, or its arguments or fields differ.
    """
    installed = _known_version(f"the {program} runs")
    for shape in SHAPES[program]:
        difference = _difference(shape)
        if difference:
            raise UnknownFlower(f"flwr {installed}: {shape.module}.{shape.name} {difference}")


def _difference(shape: Shape) -> str:
    """How Flower's name differs from its known shape; empty if it does not."""
    try:
        found: Any = importlib.import_module(shape.module)
        for part in shape.name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        return f"is missing ({error})"
    if shape.arguments is not None:
        arguments = tuple(inspect.signature(found).parameters)
        if arguments != shape.arguments:
            return f"takes {', '.join(arguments) or 'nothing'}; known is {', '.join(shape.arguments)}"
    missing = set(shape.fields or ()) - set(getattr(found, "__dataclass_fields__", ()))
    return f"has no {', '.join(sorted(missing))}" if missing else ""


def _known_version(what: str) -> str:
    """Flower's version. Raises UnknownFlower where it is another than the known one."""
    installed = version("flwr")
    if not installed.startswith(FLOWER):
        raise UnknownFlower(f"flwr {installed} is installed; {what} with flwr {FLOWER}x only")
    return installed


def source_digest(module: str, name: str) -> str:
    """SHA-256 of a function's source, hexadecimal; empty where there is no such function."""
    try:
        function = getattr(importlib.import_module(MODULES[module]), name)
        return hashlib.sha256(inspect.getsource(function).encode()).hexdigest()
    except (ImportError, AttributeError, OSError, TypeError):
        return ""


def main() -> int:
    """Entry point."""
    try:
        check()
    except UnknownFlower as error:
        print(error, file=sys.stderr)
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main())
