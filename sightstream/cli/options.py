"""The options that commands share, and how they become settings."""

from __future__ import annotations

import re
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


_INTERVAL = re.compile(r"(\d+(?:\.\d+)?)\s*([smhd])$")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def seconds(option: str, value: str) -> float:
    """The seconds of an interval such as 30s, 10m, 1h.

    Raises:
        InputError: it is not of that form, or no time at all.
    """
    from sightstream.errors import InputError

    found = _INTERVAL.match(value)
    interval = float(found[1]) * _SECONDS[found[2]] if found else 0
    if not interval:
        raise InputError(f"{option} is a number and s, m, h or d, such as 1h, not '{value}'")
    return interval
