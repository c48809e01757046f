"""The command line: `sightstream`. Each package adds its own commands."""

from __future__ import annotations

import atexit
import gc
import os
import sys
from typing import Annotated, NoReturn

import typer

import producers.commands
import streaming.commands
import training.commands
import web.commands
from sightstream import terminal
from sightstream.cli import commands, options
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


def main() -> NoReturn:
    """Runs the command; an error that a user can mend is one line on stderr."""
    # Imports make a million objects, hardly any of them garbage; the collector looks at them all.
    gc.set_threshold(50_000)
    code = _exit_code()
    # As mypy does: Python would take a second or two to take those objects apart.
    atexit._run_exitfuncs()
    os._exit(code)


def _exit_code() -> int:
    code = 0
    try:
        try:
            app()
        finally:
            sys.stdout.flush()
    except SystemExit as end:
        if isinstance(end.code, str):  # which Python prints
            raise
        code = end.code or 0
    except SightstreamError as error:
        code = _failed(error, error.exit_code)
    except BrokenPipeError:  # such as of `query ... | head`
        pass
    except OSError as error:  # such as a full disk, or a folder without permission
        code = _failed(error, EnvironmentUnfitError.exit_code)
    return code


def _failed(error: Exception, code: int) -> int:
    sys.stderr.write(f"sightstream: {error}\n")
    return code
