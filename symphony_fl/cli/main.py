"""The `symphony` command: its list of commands, and what becomes of errors.

Exit status: 0 done, 1 a run failed, 2 the command or a recipe was refused, 130 interrupted. An error is one line on
standard error that begins with `symphony: `.
"""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Sequence
from typing import Annotated

import click
import typer
from typer.core import TyperGroup

from symphony_fl import __version__
from symphony_fl.cli import devices, recipes, results, runs
from symphony_fl.cli.words import Command
from symphony_fl.storage.folders import keep_private

FAILED, REFUSED, INTERRUPTED = 1, 2, 130
PANELS = {
    "Runs": (runs.run, runs.resume, runs.compare, runs.frontier, runs.experiment),
    "Recipes": (recipes.recipes, recipes.options),
    "Results": (results.dashboard, results.timing, results.replay),
    "Devices": (devices.network, devices.up, devices.status, devices.key),
    "Measurements": (runs.bench,),
}
"""Every command, under the heading of its panel."""


class Commands(TyperGroup):
    """The group of all commands; what a command raises is its exit status and one line."""

    def invoke(self, ctx: click.Context) -> int:
        """Run the command that was named; its exit status."""
        try:
            return int(super().invoke(ctx) or 0)
        except KeyboardInterrupt:
            _complain("interrupted")
            return INTERRUPTED
        except (click.ClickException, click.exceptions.Exit):
            raise
        except Exception as error:
            status = _status_of(error)
            if status is None:
                raise
            _complain(str(error))
            return status


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    keep_private()
    words = sys.argv[1:] if arguments is None else list(arguments)
    try:
        status = typer.main.get_command(_app()).main(words, prog_name="symphony", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError:  # has printed the help
        return REFUSED
    except click.UsageError as error:
        where = "symphony" if error.ctx is None else error.ctx.command_path
        _complain(f"{error.format_message()} (see: {where} --help)")
        return REFUSED
    except click.ClickException as error:
        _complain(error.format_message())
        return REFUSED
    return int(status or 0)


def _app() -> typer.Typer:
    app = typer.Typer(
        cls=Commands,
        help="Agents that teach each other by gossip, on Flower.",
        no_args_is_help=True,
        suggest_commands=False,  # click does
        rich_markup_mode="rich",
        context_settings={"help_option_names": ["--help", "-h"]},
    )
    app.callback()(_common)
    for panel, commands in PANELS.items():
        for command in commands:
            app.command(command.__name__, cls=Command, rich_help_panel=panel)(command)
    return app


def _print_versions(wanted: bool) -> None:
    if wanted:
        python = ".".join(map(str, sys.version_info[:3]))
        print(f"symphony {__version__}\nPython {python}")
        for name in ("flwr", "torch"):  # neither is imported: that takes seconds
            print(f"{name} {importlib.metadata.version(name)}")
        raise typer.Exit


def _common(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Versions of what a run depends on.", is_eager=True, callback=_print_versions
        ),
    ] = False,
) -> None:
    """Agents that teach each other by gossip, on Flower."""


def _status_of(error: Exception) -> int | None:
    """The exit status of an error that is meant for people; None of a bug."""
    from symphony_fl.config.recipe import RecipeError
    from symphony_fl.storage.folders import FolderError

    if isinstance(error, RecipeError | FolderError):  # at once: the following imports take a while
        return REFUSED
    from symphony_fl.identity.key_file import KeyFileError
    from symphony_fl.launch.local_superlink import LaunchError
    from symphony_fl.storage.private import EdgeError

    if isinstance(error, LaunchError):
        return FAILED
    return REFUSED if isinstance(error, EdgeError | KeyFileError) else None


def _complain(message: str) -> None:
    print(f"symphony: {' '.join(message.split())}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
