"""The options that commands share, and how they become settings."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from sightstream.config import Settings

Home = Annotated[
    Path | None,
    typer.Option("--home", help="The folder that holds all state [SIGHTSTREAM_HOME; data]."),
]
Master = Annotated[
    str | None, typer.Option(help="Spark master, such as spark://host:7077 [local[*,4]].")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]


class Before:
    """Options that stood before the command."""

    home: Path | None = None


def settings(home: Path | None, **flags: Any) -> Settings:
    """Settings with the flags of a command on top.

    Args:
        home: the command's own --home; it may stand before the command too.
        flags: settings by name; None means not given.
    """
    from sightstream import config

    return config.load(home=home or Before.home, **flags)
