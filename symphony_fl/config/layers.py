"""Layers of a recipe, lowest first, become one tree of values with the types that its options want.

Naming another component than the layer below drops the options of that one: `gossip` extends `default`, and with
`rule: average` nothing of epidemic's step size is left. Naming the same one, or none, changes single options.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import UnionType
from typing import Any, Literal, TypeGuard, get_args, get_origin

import yaml
from pydantic.fields import FieldInfo

from symphony_fl.config.option import Chosen, Options

_INTEGER = re.compile(r"[+-]?(0|[1-9][0-9]*)")
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?|[+-]?inf|nan")
_BOOLEANS = {"true": True, "false": False}
WANTED = {int: "an integer", float: "a number", bool: "true or false", str: "text"}


class ValueTypeError(ValueError):
    """A value that cannot be what its option wants."""

    def __init__(self, key: str, value: object, wanted: str) -> None:
        super().__init__(f"{key} = {value!r}: must be {wanted}")


def chosen(field: FieldInfo) -> Chosen | None:
    """The mark of a field whose value is a component, if it is one."""
    return next((item for item in field.metadata if isinstance(item, Chosen)), None)


def merged(schema: type[Options], below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """`below`, changed by `above`. Keys that the schema lacks are kept, to be refused when all is validated."""
    values = dict(below)
    for key, value in above.items():
        field = schema.model_fields.get(key)
        mark = None if field is None else chosen(field)
        if field is not None and mark is not None:
            values[key] = _component(field, mark, values.get(key), named(value))
        elif field is not None and isinstance(value, Mapping) and is_section(field.annotation):
            values[key] = merged(field.annotation, values.get(key, {}), value)
        else:
            values[key] = value
    return values


def named(value: Any) -> Any:
    """The short form of a component, its name, as a mapping; anything else as it is."""
    if isinstance(value, str):
        inner = yaml.load(value, yaml.BaseLoader) if value.startswith("{") else {"name": value}
        return inner if isinstance(inner, dict) else value
    return value


def is_section(annotation: Any) -> TypeGuard[type[Options]]:
    """True for a class of options that a recipe does not choose by name."""
    return isinstance(annotation, type) and issubclass(annotation, Options)


def _component(field: FieldInfo, mark: Chosen, below: Any, above: Any) -> Any:
    default = field.get_default(call_default_factory=True)
    below = {"name": default.name} if below is None else below
    if not isinstance(above, Mapping) or not isinstance(below, Mapping):
        return above
    name = above.get("name", below.get("name"))
    try:
        schema = mark.options_of(name)
    except (KeyError, TypeError):
        return {"name": name, **above}
    kept = below if below.get("name") == name else {"name": name}
    return merged(schema, kept, above)


def typed(schema: type[Options], values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The same tree, in which texts such as "3" are what their option wants.

    Raises
    ------
    ValueTypeError
        A value is not of its option's type and cannot be read as one.
    """
    found = dict(values)
    for key, field in schema.model_fields.items():
        if key not in values:
            continue
        value, where, mark = values[key], f"{prefix}{key}", chosen(field)
        if mark is not None or is_section(field.annotation):
            found[key] = _typed_section(field, mark, value, where)
        else:
            found[key] = _typed_value(field.annotation, value, where)
    return found


def _typed_section(field: FieldInfo, mark: Chosen | None, value: Any, where: str) -> Any:
    if not isinstance(value, Mapping):
        return value  # refused when all is validated
    if mark is None:
        assert is_section(field.annotation)
        return typed(field.annotation, value, f"{where}.")
    try:
        schema = mark.options_of(value.get("name", ""))
    except (KeyError, TypeError):
        return value
    return typed(schema, value, f"{where}.")


def _typed_value(kind: Any, value: Any, where: str) -> Any:
    if get_origin(kind) is list:
        items = yaml.load(value, yaml.BaseLoader) if isinstance(value, str) else value
        if not isinstance(items, list):
            raise ValueTypeError(where, value, "a list, such as [a,b]")
        return [_typed_value(get_args(kind)[0], item, where) for item in items]
    if is_section(kind):
        return typed(kind, value, f"{where}.") if isinstance(value, Mapping) else value
    if get_origin(kind) is Literal:
        kind = str
    assert not isinstance(kind, UnionType), where
    if type(value) is kind or kind is None:
        return value
    if kind is float and type(value) is int:
        return float(value)
    if isinstance(value, str):
        if kind is bool and value in _BOOLEANS:
            return _BOOLEANS[value]
        if kind is int and _INTEGER.fullmatch(value):
            return int(value)
        if kind is float and _NUMBER.fullmatch(value):
            return float(value)
    wanted = WANTED[kind]
    if kind is str:
        wanted += "; put it in quotes"
    elif kind is int and isinstance(value, str) and value.strip("+-").isdigit():
        wanted += " without leading zeros"
    raise ValueTypeError(where, value, wanted)
