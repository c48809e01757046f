"""Entry points: how installed packages add commands to `sightstream` and checks to `doctor`."""

from __future__ import annotations

from importlib.metadata import EntryPoint, distributions


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
