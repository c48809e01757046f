"""The command line `sightstream`; installed packages add commands by entry point."""

import atexit
import gc
import os
import sys
from typing import Annotated, NoReturn

import typer

from sightstream import plugins, terminal
from sightstream.cli import extras, options
from sightstream.errors import (
    EnvironmentUnfitError,
    InputError,
    SightstreamError,
    StreamFailedError,
    first_line,
    reason,
)
from sightstream.images import mute_pillow

OURS = ("stream", "producers", "library", "training", "web")
"""Our own entry points, in the order of `sightstream --help`."""

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
    context: typer.Context,
    home: options.Home = None,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Images arrive, Spark classifies them, each becomes a row of a table.

    Start with: sightstream run
    """
    options.Before.home = home
    options.Before.command = context.invoked_subcommand or ""
    if version:
        from importlib.metadata import version as installed

        terminal.out.print(installed("sightstream"))
        raise typer.Exit


def add_commands() -> None:
    """Adds the commands of all installed packages; one that fails to load costs a line."""
    for entry in plugins.entry_points("sightstream.commands", *OURS):
        try:
            entry.load()(app)
        except Exception as error:  # whatever another package does wrong
            sys.stderr.write(
                f"sightstream: the commands of {entry.name} ({entry.value}) cannot be loaded: "
                f"{type(error).__name__}: {first_line(error)}; update or uninstall their package\n"
            )


add_commands()


def main() -> NoReturn:
    """Runs the command; an error that a user can mend is one line on stderr."""
    # Imports create a million objects, hardly any of them garbage, and the collector visits all.
    gc.set_threshold(50_000)
    mute_pillow()
    terminal.take_any_text()
    code = _exit_code()
    # As mypy does: Python would take a second or two to take those objects apart.
    if end := getattr(atexit, "_run_exitfuncs", None):
        end()
        os._exit(code)
    sys.exit(code)


def _exit_code() -> int:
    try:
        try:
            app()
        finally:
            sys.stdout.flush()
    except SystemExit as end:
        if isinstance(end.code, str):  # which Python prints
            raise
        return end.code or 0
    except SightstreamError as error:
        return _failed(error, error.exit_code)
    except BrokenPipeError:  # such as of `query ... | head`
        return 0
    except UnicodeEncodeError as error:
        text = f"{error.object[:100]!r} cannot be written as {error.encoding}; give another name"
        return _failed(text, InputError.exit_code)
    except OSError as error:  # such as a full disk, or a folder without permission
        return _failed(error, EnvironmentUnfitError.exit_code)
    except ModuleNotFoundError as error:
        if sentence := extras.explain(error, options.Before.command):
            return _failed(sentence, EnvironmentUnfitError.exit_code)
        raise
    except Exception as error:
        if not type(error).__module__.startswith(("pyspark.", "py4j.")):
            raise
        return _failed(f"Spark failed: {reason(error)}", StreamFailedError.exit_code)
    return 0


def _failed(error: object, code: int) -> int:
    # That of a query has several lines, and any may quote names from outside.
    said = "\n".join(map(terminal.printable, f"sightstream: {error}".split("\n")))
    sys.stderr.write(f"{said}\n")
    return code
