"""Plug-ins: components from outside the package, in an installed distribution or in one Python file.

A distribution announces them by entry points (groups `symphony_fl.rules`, `symphony_fl.skills`, ...), each of which
loads a module, or a function, that calls `symphony_fl.register`. They are there wherever it is installed. A file is
named by a recipe (`plugins: [my_skill.py]`) and is for runs on this machine only: a device loads no code that a recipe
names.

A recipe's `plugins`, resolved, say what a run needs, so they are part of its digest and of the greeting:
`file:/path#hash` of a file's content, `package:name==version` of a distribution whose components it uses.
"""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from collections.abc import Iterable, Sequence
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from symphony_fl import registry
from symphony_fl.errors import LocalError

FILE, PACKAGE = "file:", "package:"
HASH_DIGITS = 16
MAX_FILE = 1 << 20  # bytes


class PluginError(LocalError, ValueError):
    """A plug-in that cannot be used; says which and why. The network is not told."""


def resolve(entry: str, beside: Path) -> str:
    """A recipe's entry as it travels: with the absolute path and the content's hash.

    Parameters
    ----------
    beside : the folder that a relative path starts from

    Raises
    ------
    PluginError
        There is no such file, or the entry is none.
    """
    if entry.startswith((FILE, PACKAGE)):
        return entry
    if not entry.endswith(".py"):
        raise PluginError(
            f"plugins: {entry!r}: must be a Python file; what is installed is found by its entry points"
        )
    path = (beside / Path(entry).expanduser()).resolve()
    return f"{FILE}{path}#{_hash(path)}"


def activate(entries: Iterable[str], *, files: bool) -> None:
    """Make the components of a recipe's resolved entries known in this process.

    Parameters
    ----------
    files : whether code may be loaded from files; False where the recipe came over a network

    Raises
    ------
    PluginError
        An entry may not be loaded, changed since the recipe was made, is of another version, or fails.
    """
    load_installed()
    for entry in entries:
        if entry.startswith(PACKAGE):
            _check_installed(entry)
        elif not files:
            raise PluginError(
                "plugins: a recipe names a file",
                "plugins: a device loads no code that a recipe names; install the plug-in there",
            )
        else:
            _load_file(entry)


def needed(used: Sequence[tuple[str, str]]) -> list[str]:
    """The distributions that provide components, as entries; (kind, name) of each component used."""
    providers = {registry.providers(kind, name) for kind, name in used}
    return sorted(name for name in providers if name.startswith(PACKAGE))


@lru_cache(maxsize=1)
def load_installed() -> None:
    """Load the entry points of all installed plug-ins, once per process.

    Raises
    ------
    PluginError
        One of them fails; it is named, since a run without it might mean something else.
    """
    for kind in (*registry.PLUGGABLE, *registry.PLAIN):
        for entry in entry_points(group=f"symphony_fl.{kind}"):
            with registry.providing(_provider(entry)):
                try:
                    loaded = entry.load()
                    if callable(loaded) and not isinstance(loaded, type):
                        loaded()
                except (Exception, SystemExit) as error:
                    raise PluginError(
                        f"plug-in {_provider(entry)}: entry point {entry.name!r} of symphony_fl.{kind}: "
                        f"{type(error).__name__}: {error}"
                    ) from error


def _provider(entry: EntryPoint) -> str:
    assert entry.dist is not None, entry
    return f"{PACKAGE}{entry.dist.name}=={entry.dist.version}"


def _check_installed(entry: str) -> None:
    known = {
        component.provider for kind in registry.KINDS for component in registry.components(kind).values()
    } | {provider for kind in registry.PLAIN for _, provider in registry.items(kind).values()}
    if entry not in known:
        name = entry.removeprefix(PACKAGE).partition("==")[0]
        there = [item for item in known if item.startswith(f"{PACKAGE}{name}==")]
        has = there[0].removeprefix(PACKAGE) if there else "nothing of it"
        raise PluginError(f"plugins: the run needs {entry.removeprefix(PACKAGE)}; installed is {has}")


def _load_file(entry: str) -> None:
    place, _, wanted = entry.removeprefix(FILE).rpartition("#")
    path = Path(place)
    found = _hash(path)
    if found != wanted:
        raise PluginError(f"plugins: {path}: changed since the run began (content {found}, was {wanted})")
    name = f"symphony_plugin_{found}"
    if name in sys.modules:
        return
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None, path
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        with registry.providing(entry):
            spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise PluginError(f"plugins: {path}: {type(error).__name__}: {error}") from error


def _hash(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise PluginError(f"plugins: {path}: cannot be read ({error.strerror})") from None
    if len(data) > MAX_FILE:
        raise PluginError(f"plugins: {path}: {len(data)} bytes, at most {MAX_FILE}")
    return hashlib.sha256(data).hexdigest()[:HASH_DIGITS]
