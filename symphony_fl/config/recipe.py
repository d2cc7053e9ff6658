"""Recipes: one YAML file names everything of an experiment; nothing is read that is not declared in `options.py`.

A recipe is checked whole before any work starts: unknown keys (with "did you mean"), types, ranges and short names.
What is left afterwards is a plain, typed `Recipe`; its digest is logged and checked by every agent. Configuration
objects stop at the edge: components take explicit arguments (see `build/`).

A file or override may refer to other keys and to the environment (`${oc.env:NAME}`): its author is the user who runs
it. The resolved recipe travels to every agent of the run, so a recipe is no place for a secret. A received recipe may
not contain references, and OmegaConf never sees it (`received.py`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import ValidationError

from symphony_fl.config.explain import did_you_mean, explain
from symphony_fl.config.layers import ValueTypeError, merged, typed
from symphony_fl.config.options import Recipe
from symphony_fl.config.plugins import PluginError, activate, needed, resolve
from symphony_fl.config.received import NotPlainError, check_text, plugins_of, read_plain
from symphony_fl.errors import PublicError

RECIPES_FOLDER = Path(__file__).resolve().parents[2] / "recipes"
_LEADING_ZERO = re.compile(r"[+-]?0[0-9_]+")


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
    layers = [*_layers(name_or_path, seen=()), Layer(_parse_overrides(overrides), Path.cwd())]
    try:
        plugins = _activated(layers)
    except PluginError as error:
        raise LocalRecipeError(f"recipe {name_or_path!r}: {error}") from None
    recipe = _build(layers, name_or_path, plugins)
    used = needed(_components(recipe))
    return _build(layers, name_or_path, list(dict.fromkeys([*plugins, *used]))) if used else recipe


@lru_cache(maxsize=8)
def recipe_from_json(text: str, *, files: bool = False) -> Recipe:
    """The recipe a server sent: complete, plain, and checked like a file's.

    `files` says whether its plug-ins may be loaded from files: where its author is this machine's user.

    The same text gives the same object, which is never changed. The cache is needed because every message to every
    agent carries the recipe, and checking it took 80 % of an agent's time without learning.

    Raises
    ------
    RecipeError
        Names the field and what is allowed, and shows nothing but what was received.
    """
    try:
        activate(plugins_of(text), files=files)
    except PluginError as error:
        raise LocalRecipeError(f"recipe received: {error}", error.public) from None
    return _plain(text, source="received")


def _plain(text: str, source: str) -> Recipe:
    try:
        return read_plain(text, Recipe)
    except NotPlainError as error:
        raise RecipeError(f"recipe {source!r}: {error}") from None


class Layer(NamedTuple):
    """What a file or the overrides say, and the folder that relative paths in it start from."""

    values: Mapping[str, Any]
    folder: Path


def _layers(name_or_path: str, seen: tuple[Path, ...]) -> list[Layer]:
    path = _find(name_or_path, beside=seen[-1].parent if seen else None)
    if path in seen:
        raise LocalRecipeError(f"recipe {path.name!r}: extends itself")
    values = _read_file(path)
    parent = values.pop("extends", None)
    values.setdefault("name", path.stem)
    below = [] if parent is None else _layers(str(parent), (*seen, path))
    return [*below, Layer(values, path.parent)]


def _read_file(path: Path) -> dict[str, Any]:
    """The keys of a file, references looked up."""
    try:
        text = path.read_text(encoding="utf-8")
        node = yaml.compose(text, yaml.SafeLoader)
        if not isinstance(node, yaml.MappingNode) or not node.value:
            raise LocalRecipeError(
                f"recipe {str(path)!r}: must be a mapping of keys to values, and not empty"
            )
        _refuse_octal(node, path)
        values = OmegaConf.to_container(OmegaConf.create(text), resolve=True)
    except (OmegaConfBaseException, yaml.YAMLError, OSError, UnicodeDecodeError) as error:
        raise LocalRecipeError(f"recipe {str(path)!r}: {_one_line(error)}") from None
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}


def _refuse_octal(node: yaml.Node | None, path: Path) -> None:
    """YAML reads 010 as 8; its author meant 10."""
    if isinstance(node, yaml.ScalarNode):
        if node.style is None and _LEADING_ZERO.fullmatch(node.value):
            line = node.start_mark.line + 1
            raise LocalRecipeError(
                f"recipe {str(path)!r}: line {line}: {node.value}: must be a number without leading zeros, or text "
                "in quotes"
            )
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _refuse_octal(item, path)
    elif isinstance(node, yaml.MappingNode):
        for pair in node.value:
            for item in pair:
                _refuse_octal(item, path)


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
    """`a.b=value` as a tree of texts, references looked up; `typed` makes of them what their options want."""
    tree: dict[str, Any] = {}
    items = list(overrides)
    for item in items:
        key, equals, value = item.partition("=")
        parts = key.split(".")
        if not equals or not all(parts):
            raise LocalRecipeError(f"override {item!r}: must look like key=value")
        inner = tree
        for part in parts[:-1]:
            below = inner.setdefault(part, {})
            if isinstance(below, str):  # a component, named before it is given options
                below = inner[part] = {"name": below}
            inner = below
        last = inner.get(parts[-1])
        if isinstance(last, dict):
            last["name"] = value
        else:
            inner[parts[-1]] = value
    try:
        values = OmegaConf.to_container(OmegaConf.create(tree), resolve=True)
    except (OmegaConfBaseException, yaml.YAMLError) as error:
        raise LocalRecipeError(f"overrides {' '.join(items)!r}: {_one_line(error)}") from None
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}


def _activated(layers: Sequence[Layer]) -> list[str]:
    """The plug-ins of all layers, resolved and loaded."""
    found: list[str] = []
    for values, folder in layers:
        entries = values.get("plugins", [])
        entries = yaml.load(entries, yaml.BaseLoader) if isinstance(entries, str) else entries
        if not isinstance(entries, list) or not all(isinstance(entry, str) for entry in entries):
            raise PluginError(f"plugins = {entries!r}: must be a list of Python files")
        found += [resolve(entry, folder) for entry in entries]
    found = list(dict.fromkeys(found))
    activate(found, files=True)
    return found


def _components(recipe: Recipe) -> list[tuple[str, str]]:
    """(kind, name) of every component the recipe uses that plug-ins may provide."""
    exchange = recipe.exchange
    return [
        ("strategies", recipe.strategy.name),
        ("learners", recipe.learner.name),
        ("topologies", recipe.topology.name),
        ("rules", exchange.rule.name),
        ("selections", exchange.selection.name),
        ("codecs", exchange.codec.name),
        ("models", recipe.model.name),
        *(("skills", name) for name in recipe.tasks.skills),
    ]


def _build(layers: Sequence[Layer], source: str, plugins: Sequence[str]) -> Recipe:
    values: dict[str, Any] = {}
    try:
        for layer in layers:
            _check_texts(layer.values, prefix="")
            values = merged(Recipe, values, layer.values)
        values["plugins"] = list(plugins)
        values = typed(Recipe, values)
        recipe = Recipe.model_validate(values)
    except ValidationError as error:
        raise LocalRecipeError(f"recipe {source!r}: {explain(error, Recipe, values)}") from None
    except (ValueTypeError, NotPlainError, yaml.YAMLError) as error:
        raise LocalRecipeError(f"recipe {source!r}: {_one_line(error)}") from None
    return _plain(recipe.to_json(), source)  # what will travel is what receivers read


def _check_texts(value: Any, prefix: str) -> None:
    """What a file referred to is resolved by now. What came of it is text: a second look, such as merging takes, would
    look up what a value of the environment says."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            _check_texts(inner, f"{prefix}{key}.")
    elif isinstance(value, list):
        for inner in value:
            _check_texts(inner, prefix)
    elif isinstance(value, str):
        check_text(value, prefix[:-1])


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
