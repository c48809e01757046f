"""Files of the home that are cut short, as a power failure leaves them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from tests.chaos.faults.fault import Fault

if TYPE_CHECKING:
    from tests.chaos.world import World

REFUSED = 6
"""Exit code of a stream whose checkpoint is damaged: the supervisor does what it says."""


@contextmanager
def torn(world: World, chance: Random, kind: str, left: float) -> Iterator[str]:
    """The newest file of a kind in one checkpoint, while no stream runs."""
    world.stream.hold()
    try:
        checkpoint = world.home.settings.checkpoint(chance.choice(world.sources))
        found = _newest(checkpoint, kind)
        if found:
            content = found.read_bytes()
            found.write_bytes(content[: int(len(content) * left)])
        what = f"{checkpoint.name}/{found.relative_to(checkpoint)}" if found else f"no {kind}"
    finally:
        world.stream.release()
    yield what


@contextmanager
def torn_pending(world: World, chance: Random) -> Iterator[str]:
    """A list of files that the intake was about to move: it was killed before it moved any."""
    world.stream.hold()
    try:
        manifests = world.home.settings.manifests
        whole = max(manifests.glob("*.arrow"), default=None)
        there = manifests / "pending"
        if whole and not there.exists():
            content = whole.read_bytes()
            there.write_bytes(content[: chance.choice([0, len(content) // 2])])
            what = f"{there.stat().st_size} of {len(content)} bytes"
        else:
            what = "nothing to tear"
    finally:
        world.stream.release()
    yield what


def _newest(checkpoint: Path, kind: str) -> Path | None:
    if kind == "metadata":
        return checkpoint / kind if (checkpoint / kind).exists() else None
    numbered = [p for p in (checkpoint / kind).glob("*") if p.name.isdecimal()]
    return max(numbered, key=lambda path: int(path.name), default=None)


FAULTS = [
    *(Fault(f"torn {kind}, {name}", partial(torn, kind=kind, left=left), group="torn",
            codes=(REFUSED,))
      for kind in ("offsets", "commits", "metadata")
      for name, left in (("empty", 0), ("half", 0.5))),
    Fault("torn pending", torn_pending),
]  # fmt: skip
