"""Recipes: one YAML file names everything of an experiment; nothing is read that is not declared in `options.py`.

A recipe is checked whole before any work starts: unknown keys (with "did you mean"), types, ranges and short names.
What is left afterwards is a plain, typed `Recipe`; its digest is logged and checked by every agent. Configuration
objects stop at the edge: components take explicit arguments (see `components.py`).

A file or override may refer to other keys and to the environment (`${oc.env:NAME}`): its author is whoever runs it.
What travels is what came of it, which every agent of the run then reads, so a recipe is no place for a secret. A recipe
that was received refers to nothing, and OmegaConf never sees it (`received.py`).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from symphony_fl.config.options import Recipe
from symphony_fl.config.received import NotPlainError, check_text, read_plain
from symphony_fl.errors import PublicError

__all__ = [
    "LocalRecipeError",
    "Recipe",
    "RecipeError",
    "did_you_mean",
    "load_recipe",
    "recipe_from_json",
    "recipe_names",
]

RECIPES_FOLDER = Path(__file__).resolve().parents[2] / "recipes"


class RecipeError(PublicError, ValueError):
    """A recipe that cannot be run; the message names the field, its value and what is allowed."""


class LocalRecipeError(RecipeError):
    """The same, where the message speaks of files and programs of this machine; the network is told `public` alone."""

    def __init__(self, message: str, public: str = "") -> None:
        super().__init__(message, public)


def recipe_names() -> list[str]:
    """Names of the recipes that ship with the project."""
    return sorted(path.stem for path in RECIPES_FOLDER.glob("*.yaml"))


def load_recipe(name_or_path: str, overrides: Iterable[str] = ()) -> Recipe:
    """The checked recipe of that name or file, with `key=value` overrides applied last.

    Raises
    ------
    RecipeError
        Names the recipe, the field, its value and what is allowed. Component names and what only holds
        between fields are checked by `components.check_recipe`.
    """
    layers = [*_layers(name_or_path, seen=()), _parse_overrides(overrides)]
    return _build(layers, source=name_or_path)


@lru_cache(maxsize=8)
def recipe_from_json(text: str) -> Recipe:
    """The recipe a server sent: complete, plain, and checked like a file's.

    Every message to every agent needs it, and checking it took 80 % of an agent's time where nothing was learnt: the
    same text gives the same object, which nobody changes.

    Raises
    ------
    RecipeError
        Names the field and what is allowed, and shows nothing but what was received.
    """
    return _plain(text, source="received")


def _plain(text: str, source: str) -> Recipe:
    try:
        recipe = read_plain(text, Recipe)
    except NotPlainError as error:
        raise RecipeError(f"recipe {source!r}: {error}") from None
    _check_values(recipe, prefix="", source=source)
    return recipe


def _layers(name_or_path: str, seen: tuple[Path, ...]) -> list[Mapping[str, Any]]:
    path = _find(name_or_path, beside=seen[-1].parent if seen else None)
    if path in seen:
        raise LocalRecipeError(f"recipe {path.name!r}: extends itself")
    try:
        values = OmegaConf.to_container(OmegaConf.load(path), resolve=True)
    except (OmegaConfBaseException, YAMLError, OSError, UnicodeDecodeError) as error:
        raise LocalRecipeError(f"recipe {str(path)!r}: {_one_line(error)}") from None
    if not isinstance(values, dict):
        raise LocalRecipeError(f"recipe {str(path)!r}: must be a mapping of keys to values")
    parent = values.pop("extends", None)
    values.setdefault("name", path.stem)
    below = [] if parent is None else _layers(str(parent), (*seen, path))
    return [*below, {str(key): value for key, value in values.items()}]


def _find(name_or_path: str, beside: Path | None) -> Path:
    if name_or_path.endswith((".yaml", ".yml")) or "/" in name_or_path:
        path = Path(name_or_path).expanduser()
        candidates = [path] if beside is None or path.is_absolute() else [beside / path, path]
        for candidate in candidates:
            if candidate.is_file():
                return candidate.resolve()
        raise LocalRecipeError(f"recipe {name_or_path!r}: no such file")
    path = RECIPES_FOLDER / f"{name_or_path}.yaml"
    if not path.is_file():
        raise LocalRecipeError(
            f"recipe {name_or_path!r}: unknown{did_you_mean(name_or_path, recipe_names())}"
        )
    return path


def _parse_overrides(overrides: Iterable[str]) -> Mapping[str, Any]:
    items = list(overrides)
    for item in items:
        if "=" not in item or item.startswith("="):
            raise LocalRecipeError(f"override {item!r}: must look like key=value")
    try:
        values = OmegaConf.to_container(OmegaConf.from_dotlist(items), resolve=True)
    except (OmegaConfBaseException, YAMLError) as error:
        raise LocalRecipeError(f"overrides {' '.join(items)!r}: {_one_line(error)}") from None
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}


def _build(layers: Sequence[Mapping[str, Any]], source: str) -> Recipe:
    for layer in layers:
        _check_keys(layer, Recipe(), prefix="", source=source)
        _check_texts(layer, prefix="", source=source)
    try:
        config = OmegaConf.merge(
            OmegaConf.structured(Recipe), *layers
        )  # at once: every merge copies the whole
    except (OmegaConfBaseException, ValueError, TypeError) as error:
        raise LocalRecipeError(f"recipe {source!r}: {_type_error(error)}") from None
    recipe = OmegaConf.to_object(config)
    assert isinstance(recipe, Recipe)
    _check_values(recipe, prefix="", source=source)
    return _plain(recipe.to_json(), source)  # what will travel is what receivers read


def _check_keys(values: Mapping[str, Any], schema: Any, prefix: str, source: str) -> None:
    known = {item.name: getattr(schema, item.name) for item in fields(schema)}
    for key, value in values.items():
        if key not in known:
            raise RecipeError(
                f"recipe {source!r}: unknown key {prefix + str(key)!r}{did_you_mean(str(key), known)}"
            )
        if is_dataclass(known[key]):
            if not isinstance(value, Mapping):
                raise RecipeError(
                    f"recipe {source!r}: {prefix}{key} = {value!r}: must be a mapping of keys to values"
                )
            _check_keys(value, known[key], f"{prefix}{key}.", source)


def _check_texts(value: Any, prefix: str, source: str) -> None:
    """What a file referred to is resolved by now. What came of it is text: a second look, such as merging takes, would
    look up what a value of the environment says."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            _check_texts(inner, f"{prefix}{key}.", source)
    elif isinstance(value, list):
        for inner in value:
            _check_texts(inner, prefix, source)
    elif isinstance(value, str):
        try:
            check_text(value, prefix[:-1])
        except NotPlainError as error:
            raise LocalRecipeError(f"recipe {source!r}: {error}") from None


def _check_values(options: Any, prefix: str, source: str) -> None:
    for item in fields(options):
        value, name = getattr(options, item.name), prefix + item.name
        if is_dataclass(value):
            _check_values(value, f"{name}.", source)
            continue
        where = f"recipe {source!r}: {name} = {value!r}"
        rule = item.metadata
        if rule["choices"] is not None and value not in rule["choices"]:
            raise RecipeError(f"{where}: unknown{did_you_mean(str(value), rule['choices'])}")
        if isinstance(value, int | float) and not _within(value, rule):
            raise RecipeError(f"{where}: must be {_range(rule)}")


def _within(value: float, rule: Mapping[str, Any]) -> bool:
    return (
        value == value  # NaN is in no range
        and (rule["low"] is None or value >= rule["low"])
        and (rule["high"] is None or value <= rule["high"])
        and (rule["above"] is None or value > rule["above"])
    )


def _range(rule: Mapping[str, Any]) -> str:
    parts = []
    if rule["low"] is not None:
        parts.append(f"at least {rule['low']}")
    if rule["above"] is not None:
        parts.append(f"above {rule['above']}")
    if rule["high"] is not None:
        parts.append(f"at most {rule['high']}")
    return " and ".join(parts) or "a number"


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """': did you mean ...' for a near miss, else the list of what is known."""
    names = sorted(known)
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(names)}"


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())


def _type_error(error: BaseException) -> str:
    """OmegaConf's message on one line, led by the field's full name."""
    key = getattr(error, "full_key", None)
    message = str(error).splitlines()[0] if str(error) else type(error).__name__
    return f"{key}: {message}" if key else message
