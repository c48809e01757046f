"""Registers the commands that need neither the stream nor training."""

import typer

from sightstream import terminal
from sightstream.cli import models, options, predict, tables

config_app = typer.Typer(no_args_is_help=True, help="Show the settings.")


def register(app: typer.Typer) -> None:
    """Adds these commands to the command line."""
    app.command()(predict.predict)
    app.command()(tables.query)
    app.command()(tables.tail)
    app.command()(tables.label)
    app.add_typer(models.app, name="models")
    app.command()(doctor)
    app.add_typer(config_app, name="config")


def doctor(home: options.Home = None, as_json: options.Json = False) -> None:
    """Check this machine and the home folder.

    Each line is ok, or says what to do. Exit code 1 when something has to be done.

    Example: sightstream doctor
    """
    from sightstream.cli.doctor import checks

    found = list(checks(options.settings(home)))
    if as_json:
        terminal.out.print_json(data=[vars(check) for check in found])
    else:
        for check in found:
            mark = "[green]ok[/]" if check.ok else "[red]!![/]"
            terminal.out.print(mark, end=" ")
            text = terminal.printable(f"{check.name}: {check.detail}")
            terminal.out.print(text, markup=False, highlight=False)
    if not all(check.ok for check in found):
        raise typer.Exit(1)


@config_app.command("show")
def config_show(home: options.Home = None, as_json: options.Json = False) -> None:
    """Show each setting with its value and meaning; passwords are not shown.

    A setting comes from an option, SIGHTSTREAM_<NAME>, sightstream.toml, or its default; the first
    of these that is there wins.

    Example: SIGHTSTREAM_TOP_K=5 sightstream config show
    """
    from sightstream.config import shown

    settings = options.settings(home)
    values = {key: shown(key, value) for key, value in settings.model_dump(mode="json").items()}
    if as_json:
        terminal.out.print_json(data=values)
        return
    fields = type(settings).model_fields
    rows = [[key, value, fields[key].description] for key, value in values.items()]
    terminal.table(["setting", "value", "meaning"], rows)
