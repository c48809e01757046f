"""Parts that installed packages add: formats, engines, commands and checks, by entry point."""

from __future__ import annotations

import logging
from importlib.metadata import EntryPoint, distributions
from typing import Any

log = logging.getLogger(__name__)


def entry_points(group: str, *first: str) -> list[EntryPoint]:
    """Entry points of a group, by name.

    `importlib.metadata.entry_points` takes three times as long, since it reads and parses the
    metadata of everything that is installed.

    Args:
        group: such as `sightstream.commands`.
        first: names that come before all others, in this order.
    """
    found: dict[tuple[str, str], EntryPoint] = {}
    for distribution in distributions():
        if f"[{group}]" in (distribution.read_text("entry_points.txt") or ""):
            for each in distribution.entry_points.select(group=group):
                found.setdefault((each.name, each.value), each)
    names = {name: place for place, name in enumerate(first)}
    return sorted(found.values(), key=lambda e: (names.get(e.name, len(names)), e.name))


def installed(group: str) -> dict[str, Any]:
    """The objects of a group of entry points, by their names.

    One that cannot be imported is logged and left out. Where two have one name, another
    package's takes the place of ours.
    """
    parts = {}
    for point in sorted(entry_points(group), key=lambda p: not p.value.startswith("sightstream.")):
        try:
            parts[point.name] = point.load()
        except Exception as error:  # Whatever the import of somebody's module raises.
            log.warning("%s (%s) is left out: %s", point.name, point.value, error)
    return parts
