"""What is stuck in the inbox: the intake writes it down, and `status` and `doctor` read it."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from sightstream.images.event import readable
from sightstream.io import disk
from sightstream.terminal import printable

NAMED = 20  # files that are named


@dataclass(frozen=True)
class Stuck:
    """Files that could not be taken, and folders not looked into, at the last look."""

    count: int = 0
    named: Mapping[str, str] = field(default_factory=dict)
    """Some of them by name, with the reason."""

    def __str__(self) -> str:
        if not self.count:
            return "nothing is stuck"
        name, why = next(iter(self.named.items()), ("", ""))
        if _is_inbox(name):
            return printable(sentence(name, why))
        shown = f", such as {printable(name)}: it {why}" if name else ""
        return f"{self.count} file(s) stay in the inbox{shown}"


def write(file: Path, inbox: bytes, stuck: Mapping[bytes, str]) -> None:
    """Write down the paths below an inbox that are stuck, with the reasons."""
    note(file, named(inbox, stuck))


def note(file: Path, found: Mapping[str, str]) -> None:
    """Write down by name what is stuck, or an inbox that is not there, with the reasons."""
    if not found:
        file.unlink(missing_ok=True)
        return
    first = dict(islice(found.items(), NAMED))
    disk.replace(file, json.dumps({"count": len(found), "named": first}).encode())


def named(inbox: bytes, found: Mapping[bytes, str]) -> dict[str, str]:
    """Return what is found by names below an inbox instead of paths, in their order.

    The inbox itself keeps its path.
    """
    return {readable(path[len(inbox) + 1 :] or inbox): why for path, why in sorted(found.items())}


def sentence(name: str, why: str) -> str:
    """Tell why a file stays in the inbox, or what is wrong with the inbox, by its path or uri."""
    return f"the inbox {name} {why}" if _is_inbox(name) else f"{name} stays in the inbox: it {why}"


def _is_inbox(name: str) -> bool:
    return name.startswith("/") or "://" in name


def now(file: Path, inbox: Path) -> Stuck:
    """Return what is wrong with the inbox itself, else what `read` returns."""
    why = disk.dangling(inbox)
    return Stuck(1, {readable(os.fsencode(inbox)): why}) if why else read(file)


def read(file: Path) -> Stuck:
    """Return what the last look of an intake wrote down."""
    try:
        return disk.noted(file, Stuck)
    except (FileNotFoundError, ValueError):
        return Stuck()
