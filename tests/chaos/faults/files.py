"""Files of the home that are cut short, as a power failure leaves them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from sightstream.images.event import new_event_id
from streaming import checkpoint
from streaming.folder.intake import Folders, Intake
from streaming.folder.manifests import PENDING, between, pending
from tests.chaos.faults.fault import Did, Fault

if TYPE_CHECKING:
    from tests.chaos.world import World

FAILED, INPUT, REFUSED = 1, 2, 6
"""Exit codes: of a stream whose checkpoint is damaged, 6; the supervisor does what it says."""


@contextmanager
def torn(world: World, chance: Random, kind: str, left: float) -> Iterator[Did]:
    """The newest file of a kind in one checkpoint, while no stream runs."""
    world.stream.hold()
    try:
        folder = world.checkpoint(chance.choice(world.sources))
        found = _newest(folder, kind)
        did = Did(f"no {kind}", effect=False)
        if found:
            content = found.read_bytes()
            found.write_bytes(content[: int(len(content) * left)])
            did = Did(f"{folder.name}/{found.relative_to(folder)}", effect=bool(content))
    finally:
        world.stream.release()
    yield did


@contextmanager
def torn_pending(world: World, chance: Random) -> Iterator[Did]:
    """A list of files that the intake was about to move: it was killed before it moved any."""
    world.stream.hold()
    try:
        manifests = world.home.settings.manifests
        whole = max(manifests.glob("*.arrow"), default=None)
        there = manifests / f"{PENDING}-{new_event_id(time.time())}"
        if whole and not pending(manifests):
            content = whole.read_bytes()
            there.write_bytes(content[: chance.choice([0, len(content) // 2])])
            did = Did(f"{there.stat().st_size} of {len(content)} bytes")
        else:
            did = Did("nothing to tear", effect=False)
    finally:
        world.stream.release()
    yield did


@contextmanager
def torn_manifest(world: World, chance: Random) -> Iterator[Did]:
    """A manifest whose images have no row: no stream may start, until it is there again.

    Nothing that the stream does leaves one; a disk may.
    """
    world.stream.hold()
    victim = _unread_manifest(world)
    try:
        content = victim.read_bytes() if victim else b""
        if victim:
            victim.write_bytes(content[: chance.choice([0, len(content) // 2])])
        world.stream.release()
        yield Did(f"{len(content)} bytes" if victim else "no manifest is unread", bool(victim))
    finally:
        world.stream.hold()
        if victim:
            victim.write_bytes(content)
        world.stream.release()


def _unread_manifest(world: World) -> Path | None:
    """One that no micro-batch has; made by a stream that takes images, and does nothing else."""
    settings = world.home.settings
    found = between(settings.manifests, checkpoint.offset(settings.checkpoint("folder")))
    if found:
        return found[-1]
    intake = Intake(
        Folders(settings.inbox, settings.images, settings.manifests, settings.stuck),
        settings.acceptance,
    )  # fmt: skip
    deadline = time.monotonic() + 5
    while not intake.take() and time.monotonic() < deadline:
        time.sleep(0.1)
    return max(settings.manifests.glob("*.arrow"), default=None)


def _newest(folder: Path, kind: str) -> Path | None:
    if kind == "metadata":
        return folder / kind if (folder / kind).exists() else None
    numbered = [p for p in (folder / kind).glob("*") if p.name.isdecimal()]
    return max(numbered, key=lambda path: int(path.name), default=None)


FAULTS = [
    *(Fault(f"torn {kind}, {name}", partial(torn, kind=kind, left=left), group="torn",
            codes=(REFUSED,))
      for kind in ("offsets", "commits", "metadata")
      for name, left in (("empty", 0), ("half", 0.5))),
    Fault("torn pending", torn_pending, part="folder"),
    Fault("torn manifest", torn_manifest, lasts=(8, 20), part="folder", codes=(INPUT, FAILED)),
]  # fmt: skip
