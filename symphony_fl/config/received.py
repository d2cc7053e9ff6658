"""Received text is data: JSON into a recipe, complete and plain, and nothing in it is ever looked up.

A file may leave keys out, write a value in several ways and refer to the environment. Its author's machine resolves
all that before the recipe travels. So a value from the network has exactly its field's type: true is no number, 1 is
not 1.0, "1" is not 1. Every field is there once, and text is short, printable, and contains no references.
"""

from __future__ import annotations

import json
import math
from typing import Any, TypeVar, get_args, get_origin

from pydantic import ValidationError

from symphony_fl.config.explain import explain, shown
from symphony_fl.config.layers import chosen, is_section
from symphony_fl.config.option import Options

MAX_TEXT = 1 << 20  # characters of a whole text
MAX_STRING = 1000  # characters of one value
MAX_ITEMS = 100_000  # of one list
MAX_DIGITS = 16  # of an integer
INTEGER_LIMIT = 1 << 53  # beyond it, JSON's readers differ

T = TypeVar("T", bound=Options)


class NotPlainError(ValueError):
    """Text that is not what it must be; names the field and what is allowed, and shows only what was received."""


def read_plain(text: str, schema: type[T]) -> T:
    """An instance of `schema` out of JSON.

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
        _check_plain(values, "")
    except json.JSONDecodeError as error:
        raise NotPlainError(f"not JSON ({error})") from None
    except RecursionError:
        raise NotPlainError("not JSON (nested too deeply)") from None
    _check_complete(schema, values, "")
    try:
        return schema.model_validate(values)
    except ValidationError as error:
        raise NotPlainError(explain(error, schema, values)) from None


def plugins_of(text: str) -> list[str]:
    """The plug-ins that a recipe names, before anything else of it is read; none where it is no recipe."""
    if len(text) > MAX_TEXT:
        return []
    try:
        values = json.loads(text, parse_int=_integer)
    except (ValueError, RecursionError):
        return []  # refused when all is read
    entries = values.get("plugins") if isinstance(values, dict) else None
    return [entry for entry in entries if isinstance(entry, str)] if isinstance(entries, list) else []


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
        raise NotPlainError(f"{where} = {shown(value)}: must be printable text of one line")
    if "${" in value or value == "???":
        raise NotPlainError(f"{where} = {shown(value)}: must be plain text, without ${{...}} or ???")
    return value


def _check_plain(value: Any, where: str) -> None:
    """Bounds that hold for every value, whatever its field wants."""
    if isinstance(value, dict):
        for name, inner in value.items():
            _check_plain(inner, f"{where}.{name}" if where else name)
    elif isinstance(value, list):
        if len(value) > MAX_ITEMS:
            raise NotPlainError(f"{where} = {shown(value)}: must be a list of at most {MAX_ITEMS}")
        for inner in value:
            _check_plain(inner, where)
    elif isinstance(value, str):
        check_text(value, where)
    elif type(value) is int and abs(value) >= INTEGER_LIMIT:
        raise NotPlainError(f"{where} = {value}: must be below 2**53")
    elif isinstance(value, float) and not math.isfinite(value):
        raise NotPlainError(f"{where} = {value}: must be finite")


def _check_complete(schema: type[Options], values: Any, prefix: str) -> None:
    """Every field is there, and a number with a point has one."""
    if not isinstance(values, dict):
        return  # refused when all is validated
    for name, field in schema.model_fields.items():
        where = f"{prefix}{name}"
        if name not in values:
            raise NotPlainError(f"{where}: missing; a recipe that is sent says everything")
        value, mark = values[name], chosen(field)
        if mark is not None:
            try:
                inner = mark.options_of(value["name"])
            except (KeyError, TypeError):
                continue
            _check_complete(inner, value, f"{where}.")
        elif is_section(field.annotation):
            _check_complete(field.annotation, value, f"{where}.")
        else:
            _check_point(field.annotation, value, where)


def _check_point(kind: Any, value: Any, where: str) -> None:
    if get_origin(kind) is list and isinstance(value, list):
        for item in value:
            _check_point(get_args(kind)[0], item, where)
    elif is_section(kind):
        _check_complete(kind, value, f"{where}.")
    elif kind is float and type(value) is not float:
        raise NotPlainError(f"{where} = {shown(value)}: must be a number with a point")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, value in pairs:
        if name in values:
            raise NotPlainError(f"{shown(name)}: there twice")
        values[name] = value
    return values


def _integer(digits: str) -> int:
    if len(digits.lstrip("-")) > MAX_DIGITS:
        raise NotPlainError(f"a number of {len(digits)} digits, at most {MAX_DIGITS}")
    return int(digits)
