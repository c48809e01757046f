"""Parts that installed packages add, found by entry point."""

from __future__ import annotations

import logging
from importlib.metadata import entry_points
from typing import Any

log = logging.getLogger(__name__)


def installed(group: str) -> dict[str, Any]:
    """The objects of a group of entry points, by their names.

    One that cannot be imported is logged and left out. Where two have one name, another
    package's takes the place of ours.
    """
    parts = {}
    points = entry_points(group=group)
    for point in sorted(points, key=lambda p: not p.value.startswith("sightstream.")):
        try:
            parts[point.name] = point.load()
        except Exception as error:  # Whatever the import of somebody's module raises.
            log.warning("%s (%s) is left out: %s", point.name, point.value, error)
    return parts
