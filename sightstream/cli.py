"""The command line: `sightstream`. Each package adds its own commands."""

from __future__ import annotations

import os
import sys
from typing import Annotated, NoReturn

import typer

import producers.commands
import streaming.commands
import training.commands
import web.commands
from sightstream import commands, options, terminal
from sightstream.errors import EnvironmentUnfitError, SightstreamError

app = typer.Typer(
    name="sightstream",
    no_args_is_help=True,
    invoke_without_command=True,
    rich_markup_mode=None,  # rich takes longer to import than the help to read
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def root(
    home: options.Home = None,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Images arrive, Spark classifies them, each becomes a row of a table.

    Start with: sightstream run
    """
    options.Before.home = home
    if version:
        from importlib.metadata import version as installed

        terminal.out.print(installed("sightstream"))
        raise typer.Exit


streaming.commands.register(app)
producers.commands.register(app)
commands.register(app)
training.commands.register(app)
web.commands.register(app)


def main() -> None:
    """Runs the command; an error that a user can mend is one line on stderr."""
    try:
        app()
    except SightstreamError as error:
        _fail(error, error.exit_code)
    except BrokenPipeError:  # such as of `query ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:  # such as a full disk, or a folder without permission
        _fail(error, EnvironmentUnfitError.exit_code)


def _fail(error: Exception, code: int) -> NoReturn:
    sys.stderr.write(f"sightstream: {error}\n")
    sys.exit(code)
