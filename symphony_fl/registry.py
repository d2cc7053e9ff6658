"""Names -> components: which options a component has, how it is built, and who provides it.

A recipe names a component (`exchange.rule=epidemic`) and gives it options of its own (`exchange.rule.eta=1.5`). The
package's own components are built in `build/`; those of plug-ins are built by what they register here. Imports nothing
of ours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

OWN = "symphony-fl"

KINDS = {
    "strategies": "how agents work together",
    "clocks": "when a round of an agent is over",
    "learners": "how an agent improves its adapter",
    "memories": "what an agent remembers",
    "curricula": "which tasks are drawn",
    "proposers": "who writes tasks in self-play",
    "rewards": "what an agent is rewarded for",
    "topologies": "who sends to whom",
    "rules": "how received updates change an adapter (eq. 4)",
    "selections": "which entries travel (S of eq. 3)",
    "schedules": "how the density changes over the rounds",
    "codecs": "how a value travels",
    "defences": "what limits hostile updates",
    "attacks": "what hostile agents send",
}
"""Every kind of component a recipe can choose by name, and what it decides."""

PLUGGABLE = ("strategies", "learners", "topologies", "rules", "selections", "codecs")
"""The kinds to which plug-ins can add components with options of their own."""
PLAIN = ("skills", "models")
"""What plug-ins can add that has a name and no options: a skill; a model, as a function that gives its folder."""


class RegistryError(ValueError):
    """A component that cannot be registered; says which, and what is allowed."""


@dataclass(frozen=True)
class Component:
    """One entry. `options` is its options class, `provider` the distribution or file it comes from, `build` makes it
    where the package itself does not."""

    kind: str
    name: str
    options: type[Any]
    provider: str = OWN
    build: Callable[..., Any] | None = None


_COMPONENTS: dict[str, dict[str, Component]] = {kind: {} for kind in KINDS}
_ITEMS: dict[str, dict[str, tuple[Any, str]]] = {kind: {} for kind in PLAIN}
_providers: list[str] = []


def add(kind: str, options: Iterable[type[Any]]) -> None:
    """Make the package's own components known under the default of their options' field `name`."""
    for item in options:
        _enter(Component(kind, str(item.model_fields["name"].default), item))


def register(kind: str, component: Any, *, options: type[Any] | None = None, name: str = "") -> None:
    """Add a component of a plug-in.

    Parameters
    ----------
    kind : of `PLUGGABLE`, or of `PLAIN`
    component
        What builds it, called by keyword. rules: `build(options, size, agent, agents) -> Rule`; selections:
        `build(options, layout, seed) -> Selection`; codecs: `build(options) -> Codec`; topologies:
        `build(options, agents, seed) -> Topology`; learners: `build(options, policy, sampler, seed) -> Learner`;
        strategies: `build(recipe, roster, recorder, finished) -> Strategy`. skills: the skill itself. models: a
        function that gives the folder of a Hugging Face model.
    options : the class of its options, whose field `name` has the component's name as default; not for `PLAIN`
    name : of a model

    Raises
    ------
    RegistryError
        The kind is unknown, options are missing or in vain, or the name is taken.
    """
    provider = _providers[-1] if _providers else "this process"
    if kind in PLUGGABLE:
        if options is None or "name" not in getattr(options, "model_fields", {}):
            raise RegistryError(f"{kind}: options must be a class of options with a field 'name'")
        _enter(Component(kind, str(options.model_fields["name"].default), options, provider, component))
    elif kind in PLAIN:
        if options is not None:
            raise RegistryError(f"{kind}: have no options of their own")
        _enter_item(kind, name or str(getattr(component, "name", "")), component, provider)
    else:
        raise RegistryError(f"kind = {kind!r}: must be one of {', '.join((*PLUGGABLE, *PLAIN))}")


@contextmanager
def providing(provider: str) -> Iterator[None]:
    """While this lasts, what is registered comes from `provider`."""
    _providers.append(provider)
    try:
        yield
    finally:
        _providers.pop()


def components(kind: str) -> Mapping[str, Component]:
    """Every component of a kind by its name, in the order in which they were added."""
    return _COMPONENTS[kind]


def items(kind: str) -> Mapping[str, tuple[Any, str]]:
    """Name -> (what was registered, its provider), of a kind of `PLAIN`."""
    return _ITEMS[kind]


def builder(kind: str, name: str) -> Callable[..., Any]:
    """What builds a plug-in's component; whatever the plug-in's own code raises meanwhile is a RegistryError.

    Raises
    ------
    RegistryError
        No plug-in registered it.
    """
    component = _COMPONENTS[kind].get(name)
    if component is None or component.build is None:
        raise RegistryError(f"{kind}: no plug-in registered {name!r}")
    return _building(kind, name)(component.build)


@contextmanager
def _building(kind: str, name: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        cause = f"{type(error).__name__}: {error}"
        raise RegistryError(f"{kind}: {name!r} cannot be built by its plug-in ({cause})") from error


def providers(kind: str, name: str) -> str:
    """Who provides that component."""
    if kind in _ITEMS:
        found = _ITEMS[kind].get(name)
        return OWN if found is None else found[1]
    component = _COMPONENTS[kind].get(name)
    return OWN if component is None else component.provider


def _enter(component: Component) -> None:
    if component.kind not in KINDS:
        raise RegistryError(f"kind = {component.kind!r}: must be one of {', '.join(KINDS)}")
    there = _COMPONENTS[component.kind].get(component.name)
    if there is not None and there.options is not component.options:
        raise RegistryError(f"{component.kind}: {component.name!r} is taken by {there.provider}")
    _COMPONENTS[component.kind][component.name] = component


def _enter_item(kind: str, name: str, item: Any, provider: str) -> None:
    if not name:
        raise RegistryError(f"{kind}: a name is missing")
    there = _ITEMS[kind].get(name)
    if there is not None and there[0] is not item:
        raise RegistryError(f"{kind}: {name!r} is taken by {there[1]}")
    _ITEMS[kind][name] = (item, provider)
