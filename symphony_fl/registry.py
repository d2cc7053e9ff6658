"""Names -> components: which options a component has, and who provides it.

A recipe names a component (`exchange.rule=epidemic`) and gives it options of its own (`exchange.rule.eta=1.5`). This
table knows the options of every name; `build/` knows how a component is made of them. Imports nothing of ours.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

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
"""Every kind of component a recipe can name, and what it decides."""


@dataclass(frozen=True)
class Component:
    """One entry. `options` is its options class, `provider` the distribution it comes from and its version."""

    kind: str
    name: str
    options: type[Any]
    provider: str


_COMPONENTS: dict[str, dict[str, Component]] = {kind: {} for kind in KINDS}


def add(kind: str, options: Iterable[type[Any]], provider: str = "symphony-fl") -> None:
    """Make components known under the default of their options' field `name`.

    Raises
    ------
    ValueError
        There is no such kind, or another component has the name.
    """
    if kind not in KINDS:
        raise ValueError(f"kind = {kind!r}: must be one of {', '.join(KINDS)}")
    for item in options:
        name = str(item.model_fields["name"].default)
        there = _COMPONENTS[kind].get(name)
        if there is not None and there.options is not item:
            raise ValueError(f"{kind}: {name!r} is taken by {there.provider}")
        _COMPONENTS[kind][name] = Component(kind, name, item, provider)


def components(kind: str) -> Mapping[str, Component]:
    """Every component of a kind by its name, in the order in which they were added."""
    return _COMPONENTS[kind]
