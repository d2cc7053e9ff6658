"""What pydantic found wrong, as one line for people: the field, its value, what is allowed, and "did you mean"."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any, Literal, get_args, get_origin

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from symphony_fl import registry
from symphony_fl.config.layers import WANTED, chosen, is_section
from symphony_fl.config.option import ComponentOptions, Options

SHOWN = 80  # characters of a value


def explain(error: ValidationError, schema: type[Options], values: Any) -> str:
    """The first thing that is wrong with `values`, which are no `schema`."""
    first = error.errors(include_url=False, include_context=True)[0]
    return explain_one(first["type"], first["loc"], first["input"], first.get("ctx", {}), schema, values)


def explain_one(
    kind: str, loc: tuple[int | str, ...], value: Any, ctx: dict[str, Any], schema: type[Options], values: Any
) -> str:
    """One line on one error; see pydantic's list of error types."""
    where = ".".join(str(part) for part in loc if isinstance(part, str))
    section, field = _find(schema, values, loc)
    if kind == "extra_forbidden":
        return _unknown_key(where, str(loc[-1]), section, schema)
    if kind == "missing":
        return f"{where}: missing; a recipe that is sent says everything"
    said = f"{where} = {shown(value)}"
    if kind == "component":
        names = registry.components(str(ctx["kind"]))
        return f"{where} = {shown(ctx['name'])}: unknown{did_you_mean(str(ctx['name']), names)}"
    if kind in ("mapping", "model_type", "dict_type"):
        return (
            f"{said}: must be a mapping of keys to values" if where else "must be a mapping of keys to values"
        )
    if kind == "literal_error" and field is not None:
        return f"{said}: unknown{did_you_mean(str(value), choices(field.annotation))}"
    if kind in ("greater_than", "greater_than_equal", "less_than_equal") and field is not None:
        return f"{said}: must be {range_of(field)}"
    if kind == "finite_number":
        return f"{said}: must be finite"
    if kind == "list_type":
        return f"{said}: must be a list"
    wanted = {"int_type": int, "float_type": float, "bool_type": bool, "string_type": str}.get(kind)
    return f"{said}: must be {WANTED[wanted]}" if wanted else f"{said}: {kind.replace('_', ' ')}"


def _find(
    schema: type[Options], values: Any, loc: tuple[int | str, ...]
) -> tuple[type[Options], FieldInfo | None]:
    """The class of options that holds the last key of `loc`, and that key's field."""
    section, field, inner = schema, None, values
    for part in loc:
        if not isinstance(part, str):
            inner = inner[part] if isinstance(inner, list) else inner
            continue
        if field is not None:
            mark = chosen(field)
            item = get_args(field.annotation)[0] if get_origin(field.annotation) is list else field.annotation
            if mark is not None and isinstance(inner, dict):
                section = mark.options_of(str(inner.get("name")))
            elif is_section(item):
                section = item
        field = section.model_fields.get(part)
        inner = inner.get(part) if isinstance(inner, dict) else None
    return section, field


def _unknown_key(where: str, key: str, section: type[Options], schema: type[Options]) -> str:
    known = [name for name in section.model_fields if name != "name" or not _is_component(section)]
    if not _is_component(section):
        paths = [] if difflib.get_close_matches(key, known, n=1) else option_paths(schema)
        last = {path.rpartition(".")[2]: path for path in reversed(paths)}
        near = difflib.get_close_matches(key, last, n=1, cutoff=0.75)
        if near:
            return f"unknown key {shown(where)}; did you mean {last[near[0]]!r}?"
        return f"unknown key {shown(where)}{did_you_mean(key, known)}"
    name = section.model_fields["name"].default
    owners = [
        component.name
        for kind in registry.KINDS
        for component in registry.components(kind).values()
        if section in (other.options for other in registry.components(kind).values())
        and key in component.options.model_fields
    ]
    has = f"{where}: {name!r} has no option {shown(key)}"
    if owners:
        listed = ", ".join(map(repr, owners[:-1])) + (" and " if owners[1:] else "") + repr(owners[-1])
        return f"{has}; {listed} {'have' if owners[1:] else 'has'} it"
    return has + (did_you_mean(key, known) if known else "; it has none")


def option_paths(schema: type[Options], prefix: str = "") -> list[str]:
    """Every key of a recipe, those of all components included, once each."""
    found: list[str] = []
    for name, field in schema.model_fields.items():
        path, mark = f"{prefix}{name}", chosen(field)
        if mark is not None:
            found.append(path)
            for component in registry.components(mark.kind).values():
                inner = option_paths(component.options, f"{path}.")
                found += [item for item in inner if item not in found and item != f"{path}.name"]
        elif is_section(field.annotation):
            found += option_paths(field.annotation, f"{path}.")
        else:
            found.append(path)
    return found


def _is_component(section: type[Options]) -> bool:
    return issubclass(section, ComponentOptions)


def choices(annotation: Any) -> tuple[str, ...]:
    """The values of a field that takes one of a few texts; empty for any other."""
    return get_args(annotation) if get_origin(annotation) is Literal else ()


def range_of(field: FieldInfo) -> str:
    """Such as "at least 1 and at most 500"; empty for a field without bounds."""
    parts = []
    for item in field.metadata:
        for name, said in (("ge", "at least"), ("gt", "above"), ("le", "at most")):
            bound = getattr(item, name, None)
            if bound is not None:
                parts.append(f"{said} {bound:g}" if isinstance(bound, float) else f"{said} {bound}")
    return " and ".join(parts)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """'; did you mean ...' for a near miss, else the list of what is known."""
    names = sorted(known)
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(names)}"


def shown(value: Any) -> str:
    """A value in an error, cut to a bounded length."""
    if isinstance(value, dict | list):
        return f"a {'mapping' if isinstance(value, dict) else 'list'} of {len(value)}"
    text = repr(value)
    return text if len(text) <= SHOWN else text[: SHOWN - 3] + "..."
