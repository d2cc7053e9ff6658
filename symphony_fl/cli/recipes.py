"""Commands about recipes: `recipes` and `options`."""

from __future__ import annotations

import json
import shutil
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from symphony_fl.cli.words import Settings, complete_key, complete_recipe

if TYPE_CHECKING:
    from symphony_fl.config.reference import Key


def recipes(
    settings: Settings = None,
    show: Annotated[
        str | None,
        typer.Option(
            "--show",
            metavar="RECIPE",
            help="print this recipe as it would run, every key, and its digest",
            autocompletion=complete_recipe,
        ),
    ] = None,
) -> int:
    """List the recipes that ship with the project, or show one whole."""
    from symphony_fl.config.recipe import load_recipe, recipe_names

    if show is not None:
        print(_resolved(show, settings or ()), end="")
        return 0
    if settings:
        raise typer.BadParameter("needs --show RECIPE", param_hint=settings[0])
    for name in recipe_names():
        print(f"{name:24} {load_recipe(name).description}")
    return 0


def options(
    pattern: Annotated[
        str,
        typer.Argument(
            metavar="PATTERN",
            help="part of a key, or a pattern such as 'exchange.*.eta' (default: all)",
            show_default=False,
            autocompletion=complete_key,
        ),
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="as JSON")] = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="as the page docs/options.md")] = False,
    schema: Annotated[
        bool, typer.Option("--schema", help="a JSON schema of recipe files, for editors; takes no PATTERN")
    ] = False,
) -> int:
    """Every key of a recipe: what it is for, the values it admits, its default, and all components it can name."""
    from symphony_fl.config.options import Recipe
    from symphony_fl.config.recipe import RecipeError
    from symphony_fl.config.reference import json_schema, keys, markdown, matching, plain

    if as_json + as_markdown + schema > 1:
        raise typer.BadParameter("name one of them", param_hint="--json, --markdown, --schema")
    if schema and pattern:
        raise typer.BadParameter("takes no PATTERN", param_hint="--schema")
    try:
        found = matching(keys(Recipe), pattern.removesuffix("="))
    except LookupError as error:
        raise RecipeError(str(error.args[0])) from None
    if schema:
        print(json.dumps(json_schema(Recipe), indent=2))
    elif as_json:
        print(json.dumps({"keys": plain(found)}, indent=2))
    else:
        print(markdown(found) if as_markdown else _listing(found), end="")
    return 0


def _resolved(name: str, settings: Sequence[str]) -> str:
    """The recipe as YAML that gives the same recipe again; its digest as a comment."""
    import yaml

    from symphony_fl.config.recipe import load_recipe

    recipe = load_recipe(name, settings)
    text = yaml.safe_dump(recipe.model_dump(), sort_keys=False, allow_unicode=True, width=100)
    return f"# digest {recipe.digest}\n{text}"


def _listing(found: Sequence[Key]) -> str:
    """For a terminal."""
    from symphony_fl.config.reference import sections

    width = min(shutil.get_terminal_size().columns, 120)
    lines: list[str] = []
    for section, inside in sections(found).items():
        lines += ["", f"{section}"] if lines else [section]
        for key in inside:
            lines += _entry(key, width)
    return "\n".join(lines) + "\n"


def _entry(key: Key, width: int) -> list[str]:
    default = f"; default {key.default}" if key.default else "; default empty"
    head = f"{key.title} = {key.admits}{default}"
    lines = textwrap.wrap(head, width, initial_indent="  ", subsequent_indent="        ")
    lines += textwrap.wrap(key.meaning, width, initial_indent="      ", subsequent_indent="      ")
    longest = max((len(item.name) for item in key.components), default=0)
    for item in key.components:
        indent = " " * (10 + longest)
        lines += textwrap.wrap(
            f"{item.name:{longest}}  {item.meaning}",
            width,
            initial_indent=" " * 8,
            subsequent_indent=indent,
            break_on_hyphens=False,
        )
    return lines
