"""Received text is data: JSON into a dataclass of options, complete and plain, and nothing in it is ever looked up.

A file may leave keys out, write a value in several ways and refer to the environment. Its author's machine works all
that out before the recipe travels. So a value from the network has exactly its field's type (true is no number, 1 is
not 1.0, "1" is not 1), every field is there once, and text is short, printable, and refers to nothing.
"""

from __future__ import annotations

import json
import math
import types
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import lru_cache
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

MAX_TEXT = 1 << 20  # characters of a whole text
MAX_STRING = 1000  # characters of one value
MAX_ITEMS = 100_000  # of one list
MAX_DIGITS = 16  # of an integer
INTEGER_LIMIT = 1 << 53  # beyond it, JSON's readers differ
SHOWN = 80  # characters of a value in an error

T = TypeVar("T")
NAMES: dict[Any, str] = {
    bool: "true or false",
    int: "an integer",
    float: "a number with a point",
    str: "text",
}


class NotPlainError(ValueError):
    """Text that is not what it must be; names the field and what is allowed, and shows only what was received."""


def read_plain(text: str, schema: type[T]) -> T:
    """An instance of the dataclass `schema` out of JSON.

    Raises
    ------
    NotPlainError
        The text is too long, is no JSON, misses a field, has one too many or one twice, or holds a value of another
        type, one that is not finite, or one out of bounds.
    """
    if len(text) > MAX_TEXT:
        raise NotPlainError(f"{len(text)} characters, at most {MAX_TEXT}")
    try:
        values = json.loads(text, object_pairs_hook=_once, parse_int=_integer, parse_constant=float)
    except json.JSONDecodeError as error:
        raise NotPlainError(f"not JSON ({error})") from None
    except RecursionError:
        raise NotPlainError("not JSON (nested too deeply)") from None
    found: T = _instance(values, schema, "")
    return found


def check_text(value: str, where: str) -> str:
    """A text as it may travel.

    Raises
    ------
    NotPlainError
        It is too long, not printable, or refers to something: `${...}`, or `???` for a value to come.
    """
    if len(value) > MAX_STRING:
        raise NotPlainError(f"{where}: {len(value)} characters, at most {MAX_STRING}")
    if not value.isprintable():
        raise NotPlainError(f"{where} = {_shown(value)}: must be printable text of one line")
    if "${" in value or value == "???":
        raise NotPlainError(f"{where} = {_shown(value)}: must be plain text, without ${{...}} or ???")
    return value


def _instance(values: Any, schema: Any, prefix: str) -> Any:
    if not isinstance(values, Mapping):
        where = f"{prefix[:-1]} = {_shown(values)}: " if prefix else ""
        raise NotPlainError(f"{where}must be a mapping of keys to values")
    kinds = _kinds(schema)
    for name in values:
        if name not in kinds:
            raise NotPlainError(f"unknown key {_shown(prefix + name)}")
    for name in kinds:
        if name not in values:
            raise NotPlainError(f"{prefix}{name}: missing; a recipe that is sent says everything")
    return schema(**{name: _value(values[name], kind, f"{prefix}{name}") for name, kind in kinds.items()})


def _value(value: Any, kind: Any, where: str) -> Any:
    if is_dataclass(kind):
        return _instance(value, kind, f"{where}.")
    if get_origin(kind) is list:
        if type(value) is not list or len(value) > MAX_ITEMS:
            raise NotPlainError(f"{where} = {_shown(value)}: must be a list of at most {MAX_ITEMS}")
        (inner,) = get_args(kind)
        return [_value(item, inner, where) for item in value]
    if kind not in NAMES:
        raise TypeError(f"{where}: options of type {kind} cannot be received")
    if type(value) is not kind:
        raise NotPlainError(f"{where} = {_shown(value)}: must be {NAMES[kind]}")
    if kind is str:
        return check_text(value, where)
    if kind is int and abs(value) >= INTEGER_LIMIT:
        raise NotPlainError(f"{where} = {value}: must be below 2**53")
    if kind is float and not math.isfinite(value):
        raise NotPlainError(f"{where} = {value}: must be finite")
    return value


@lru_cache(maxsize=64)
def _kinds(schema: Any) -> Mapping[str, Any]:
    """Name -> type of every field."""
    hints = get_type_hints(schema)
    return types.MappingProxyType({item.name: hints[item.name] for item in fields(schema)})


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, value in pairs:
        if name in values:
            raise NotPlainError(f"{_shown(name)}: there twice")
        values[name] = value
    return values


def _integer(digits: str) -> int:
    if len(digits.lstrip("-")) > MAX_DIGITS:
        raise NotPlainError(f"a number of {len(digits)} digits, at most {MAX_DIGITS}")
    return int(digits)


def _shown(value: Any) -> str:
    """A received value in an error."""
    if isinstance(value, dict | list):
        return f"a {'mapping' if isinstance(value, dict) else 'list'} of {len(value)}"
    text = repr(value)
    return text if len(text) <= SHOWN else text[: SHOWN - 3] + "..."
