"""The reference of all keys of a recipe, made of their declarations: for a terminal, for the docs, for editors.

Pure functions over the classes of options. Components that plug-ins add are in it, too.
"""

from __future__ import annotations

import copy
import fnmatch
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from inspect import getdoc
from typing import Any, get_args, get_origin

from pydantic.fields import FieldInfo

from symphony_fl import registry
from symphony_fl.config.explain import choices, did_you_mean, range_of
from symphony_fl.config.layers import chosen, is_section
from symphony_fl.config.option import ComponentOptions, Options

TYPES = {int: "integer", float: "number", bool: "true or false", str: "text"}
GENERAL = "general"


@dataclass(frozen=True)
class Choice:
    """A component that a key can name."""

    name: str
    meaning: str
    provider: str


@dataclass(frozen=True)
class Key:
    """One key of a recipe.

    Parameters
    ----------
    path : "exchange.rule.eta"
    section : "exchange", or "general" for a key of the recipe itself
    owners : the components that have this option; empty where the key is always there
    type : "number"; of a key that names a component, "component"
    range : "above 0 and at most 100"; "" without bounds
    default : as a recipe would say it
    values : the texts that it can be; empty for any other type
    components : those it can name
    """

    path: str
    section: str
    owners: tuple[str, ...]
    type: str
    range: str
    default: str
    meaning: str
    values: tuple[str, ...] = ()
    components: tuple[Choice, ...] = ()

    @property
    def title(self) -> str:
        """The path, and whose option it is: "exchange.rule.eta (epidemic)"."""
        return f"{self.path} ({', '.join(self.owners)})" if self.owners else self.path

    @property
    def admits(self) -> str:
        """Type and range in a few words."""
        if self.components:
            return " | ".join(item.name for item in self.components)
        if self.values:
            return " | ".join(self.values)
        return f"{self.type}, {self.range}" if self.range else self.type


def keys(schema: type[Options]) -> list[Key]:
    """Every key of a recipe, those of all components included, in the order of their declaration."""
    found: dict[tuple[Any, ...], Key] = {}
    for key in _keys(schema, "", "", ()):
        same = (key.path, key.admits, key.default, key.meaning)
        there = found.get(same)
        found[same] = key if there is None else replace(there, owners=_both(there.owners, key.owners))
    return list(found.values())


def matching(known: Sequence[Key], pattern: str) -> list[Key]:
    """The keys whose path holds `pattern`, or fits it where it has a `*`, `?` or `[`.

    Raises
    ------
    LookupError
        None does; the message says which is near.
    """
    glob = any(sign in pattern for sign in "*?[")
    found = [
        key for key in known if (fnmatch.fnmatch(key.path, pattern) if glob else pattern.lower() in key.path)
    ]
    if not found:
        words = {key.path for key in known} | {key.path.rpartition(".")[2] for key in known}
        raise LookupError(f"option {pattern!r}: no key of a recipe fits{_near(pattern, words)}")
    return found


def sections(found: Iterable[Key]) -> dict[str, list[Key]]:
    """Section -> its keys, in order."""
    grouped: dict[str, list[Key]] = {}
    for key in found:
        grouped.setdefault(key.section, []).append(key)
    return grouped


def plain(found: Sequence[Key]) -> list[dict[str, Any]]:
    """The keys as JSON's types."""
    return [asdict(key) | {"admits": key.admits} for key in found]


def markdown(found: Sequence[Key], title: str = "Options of a recipe") -> str:
    """The reference as a page."""
    lines = [f"# {title}", "", "Made by `symphony options --markdown` from the declarations in the code."]
    for section, inside in sections(found).items():
        lines += ["", f"## {section}", "", "| key | values | default | meaning |", "|---|---|---|---|"]
        for key in inside:
            owners = f" ({', '.join(key.owners)})" if key.owners else ""
            values = "a component, see below" if key.components else key.admits
            cells = (f"`{key.path}`{owners}", values, f"`{key.default}`" if key.default else "", key.meaning)
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
        for key in inside:
            if key.components:
                lines += ["", f"Components of `{key.title}`:", ""]
                lines += [f"- `{item.name}`{_by(item)}: {item.meaning}" for item in key.components]
    return "\n".join(lines) + "\n"


def json_schema(schema: type[Options]) -> dict[str, Any]:
    """A JSON schema of recipe files, for editors: what a file may say, short forms and `extends` included."""
    found = copy.deepcopy(schema.model_json_schema())
    found["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    found["title"] = "Symphony-FL recipe"
    found["properties"] = {
        "extends": {"type": "string", "description": "the recipe that this one changes: a name or a file"},
        **found["properties"],
    }
    return found


def _keys(schema: type[Options], prefix: str, section: str, owners: tuple[str, ...]) -> Iterator[Key]:
    component = issubclass(schema, ComponentOptions)
    for name, field in schema.model_fields.items():
        path, mark = f"{prefix}{name}", chosen(field)
        inside = section or (name if mark is not None or is_section(field.annotation) else GENERAL)
        if component and name == "name":
            continue
        if mark is not None:
            yield _component_key(path, inside, owners, mark.kind, field)
            for item in registry.components(mark.kind).values():
                yield from _keys(item.options, f"{path}.", inside, (item.name,))
        elif is_section(field.annotation):
            yield from _keys(field.annotation, f"{path}.", inside, owners)
        else:
            yield Key(
                path=path,
                section=inside,
                owners=owners,
                type=_type(field.annotation),
                range=range_of(field),
                default=_default(field),
                meaning=field.description or "",
                values=choices(field.annotation),
            )
            item = _item(field.annotation)
            if is_section(item):
                yield from _keys(item, f"{path}[].", inside, owners)


def _component_key(path: str, section: str, owners: tuple[str, ...], kind: str, field: FieldInfo) -> Key:
    known = registry.components(kind).values()
    return Key(
        path=path,
        section=section,
        owners=owners,
        type="component",
        range="",
        default=str(field.get_default(call_default_factory=True).name),
        meaning=field.description or "",
        components=tuple(Choice(item.name, _meaning(item.options), item.provider) for item in known),
    )


def _meaning(options: type[Any]) -> str:
    """The first line of the docstring, without its stop."""
    return (getdoc(options) or "").partition("\n")[0].removesuffix(".")


def _item(annotation: Any) -> Any:
    """What a list holds; None for anything else."""
    return get_args(annotation)[0] if get_origin(annotation) is list else None


def _type(annotation: Any) -> str:
    inner = _item(annotation)
    if is_section(inner):
        return "list of mappings"
    if inner is not None:
        return (
            "list of pairs of integers" if get_origin(inner) is list else f"list of {_plural(TYPES[inner])}"
        )
    return "text" if choices(annotation) else TYPES[annotation]


def _plural(name: str) -> str:
    return name if name == TYPES[str] or name == TYPES[bool] else f"{name}s"


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return "[" + ", ".join(map(str, value)) + "]"
    if isinstance(value, float):
        return f"{value:g}" if float(f"{value:g}") == value else repr(value)
    return str(value)


def _both(owners: tuple[str, ...], more: tuple[str, ...]) -> tuple[str, ...]:
    return (*owners, *(name for name in more if name not in owners))


def _by(item: Choice) -> str:
    return "" if item.provider.startswith("symphony-fl") else f" ({item.provider})"


def _near(pattern: str, words: Iterable[str]) -> str:
    near = did_you_mean(pattern, words)
    return near if near.startswith("; did you mean") else "; see: symphony options"
