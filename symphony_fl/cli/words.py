"""Arguments that several commands share: their names, their help, how a shell completes them."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterator, Sequence
from typing import Annotated, get_type_hints

import click
import typer
from typer.core import TyperArgument, TyperCommand
from typer.models import ArgumentInfo

SEVERAL = "..."  # ends the metavar of an option that takes several words
EXPERIMENT = "symphony-fl"  # `config.options.EXPERIMENT`, which loads pydantic


class Command(TyperCommand):
    """A command whose options may take several words: `--seeds 0 1 2` is `--seeds 0 --seeds 1 --seeds 2`."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """As click's; since 8.5 it forgets the help that typer 0.20 gave to arguments."""
        found = super().get_params(ctx)
        hints = get_type_hints(inspect.unwrap(self.callback), include_extras=True) if self.callback else {}
        for item in found:
            if isinstance(item, TyperArgument) and item.help is None:
                marks = getattr(hints.get(item.name or ""), "__metadata__", ())
                item.help = next((mark.help for mark in marks if isinstance(mark, ArgumentInfo)), None)
        return found

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click does, once every word has its option's name before it."""
        several = {
            name
            for item in self.params
            if isinstance(item, click.Option) and (item.metavar or "").endswith(SEVERAL)
            for name in item.opts
        }
        return super().parse_args(ctx, list(_one_each(args, several)))


def _one_each(words: Sequence[str], several: Collection[str]) -> Iterator[str]:
    """Each word after an option of `several`, up to the next option, with that option's name before it."""
    option, first = "", False
    for word in words:
        if word in several:
            option, first = word, True
        elif option and not first and not word.startswith("-"):
            yield option
        elif first:
            first = False
        else:
            option = ""
        yield word


def complete_recipe(incomplete: str) -> list[str]:
    """Names of recipes that begin so."""
    from symphony_fl.config.recipe import recipe_names

    return [name for name in recipe_names() if name.startswith(incomplete)]


def complete_key(incomplete: str) -> list[str]:
    """Keys of a recipe that begin so, each with its `=`."""
    from symphony_fl.config.explain import option_paths
    from symphony_fl.config.options import Recipe

    return [f"{path}=" for path in option_paths(Recipe) if path.startswith(incomplete)]


def complete_word(incomplete: str) -> list[str]:
    """Names of recipes and keys that begin so."""
    return complete_recipe(incomplete) + complete_key(incomplete)


Settings = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[key=value]...",
        help="changes of the recipe, e.g. rounds=10 topology=full (see: symphony options)",
        show_default=False,
        autocompletion=complete_key,
    ),
]
InProcess = Annotated[
    bool,
    typer.Option(
        "--in-process", help="without Flower's and Ray's processes: the same agents and adapters, sooner"
    ),
]
OnNetwork = Annotated[
    str | None, typer.Option("--network", metavar="DIR", help="run on the devices of this `symphony network`")
]
ResultFile = Annotated[
    str | None, typer.Option("--json", metavar="FILE", help="write the result to this file, as JSON")
]
StoreUri = Annotated[
    str | None,
    typer.Option(
        "--uri", metavar="URI", help="MLflow tracking URI (default: the store under ~/.symphony-fl)"
    ),
]
StoreExperiment = Annotated[
    str, typer.Option("--experiment", metavar="NAME", help="MLflow experiment", show_default=True)
]
PageFile = Annotated[
    str | None,
    typer.Option("--out", metavar="FILE", help="write table and plots of the runs to FILE.html or FILE.md"),
]
