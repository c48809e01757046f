"""Options that several commands share, and how they become settings."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sightstream.errors import InputError

if TYPE_CHECKING:
    from sightstream.config import Settings

Home = Annotated[
    Path | None,
    typer.Option("--home", help="Folder that holds all state [SIGHTSTREAM_HOME; data]."),
]
Master = Annotated[
    str | None, typer.Option(help="Spark master, such as spark://host:7077 [local[*,4]].")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]


class Before:
    """The command's name, and the options that stood before it."""

    home: Path | None = None
    command = ""


def settings(home: Path | None, **flags: Any) -> Settings:
    """Loads the settings, over which the options of a command win; None: not given."""
    from sightstream import config

    return config.load(home=home or Before.home, **flags)


def flag(home: Path | None) -> str:
    """The option `--home` as it was given, for a command that a user is told."""
    given = home or Before.home
    return f" --home {shlex.quote(str(given))}" if given else ""


_INTERVAL = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)\s*([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}

SEEDS = 2**32 - 1
"""The largest seed that numpy takes."""


def seconds(option: str, value: str) -> float:
    """Seconds of an option's interval such as 30s, 10m, 1h; InputError for any other text or 0."""
    found = _INTERVAL.fullmatch(value)
    interval = float(found[1]) * _SECONDS[found[2]] if found else 0
    if not interval:
        raise InputError(f"{option} takes a number and s, m, h or d, such as 1h, not '{value}'")
    return interval
