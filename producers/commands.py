"""The command line of the producers: `sightstream drop`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sightstream import options, terminal


def register(app: typer.Typer) -> None:
    """Adds the commands of this package."""
    app.command()(drop)


def drop(
    paths: Annotated[list[Path], typer.Argument(help="Images, or folders of them.")],
    rate: Annotated[
        float | None, typer.Option(min=0.001, help="Images a second [as fast as it goes].")
    ] = None,
    home: options.Home = None,
    as_json: options.Json = False,
) -> None:
    """Copies images into the inbox, where each appears whole.

    Folders keep their structure: the path below the inbox becomes the row's original_name.

    Example: sightstream drop photos/ --rate 10
    """
    from producers import inbox

    settings = options.settings(home)
    files = inbox.find(paths)
    from rich.progress import track

    dropped = 0
    with inbox.Dropper(settings) as dropper:
        for file, name in track(
            inbox.paced(files, rate), "dropping", len(files), console=terminal.err
        ):
            dropper.drop(file, name)
            dropped += 1
    if as_json:
        terminal.out.print_json(data={"dropped": dropped, "inbox": str(settings.inbox)})
    else:
        terminal.err.print(f"{dropped} images are in {settings.inbox}", highlight=False)
