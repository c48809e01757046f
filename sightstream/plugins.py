"""Parts that installed packages add: formats, engines, commands and checks, by entry point."""

import logging
from importlib.metadata import EntryPoint, distributions
from typing import Any

log = logging.getLogger(__name__)


def entry_points(group: str, *first: str) -> list[EntryPoint]:
    """Return the entry points of a group, sorted by name, with the names in `first` in front.

    `importlib.metadata.entry_points` takes three times as long: it parses the metadata of all that
    is installed.
    """
    found: dict[tuple[str, str], EntryPoint] = {}
    for distribution in distributions():
        if f"[{group}]" in (distribution.read_text("entry_points.txt") or ""):
            for each in distribution.entry_points.select(group=group):
                found.setdefault((each.name, each.value), each)
    names = {name: place for place, name in enumerate(first)}
    return sorted(found.values(), key=lambda e: (names.get(e.name, len(names)), e.name))


def installed(group: str) -> dict[str, Any]:
    """Load the objects of a group of entry points; another package's replaces ours of its name.

    One that cannot be imported is logged and left out.
    """
    parts = {}
    for point in sorted(entry_points(group), key=lambda p: not p.value.startswith("sightstream.")):
        try:
            parts[point.name] = point.load()
        except Exception as error:  # Whatever the import of somebody's module raises.
            log.warning("%s (%s) is left out: %s", point.name, point.value, error)
    return parts
