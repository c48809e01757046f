"""Input/output errors of single files, as a disk has that wears out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from random import Random
from typing import TYPE_CHECKING

from tests.chaos.faults.fault import Did, Fault
from tests.chaos.preload import READS, SYNCS, WRITES, missing

if TYPE_CHECKING:
    from tests.chaos.world import World

FOLDERS = ("manifests", "checkpoints", "predictions")


@contextmanager
def failing(world: World, chance: Random, operation: int) -> Iterator[Did]:
    """EIO for one operation on the files of one folder of the home."""
    assert world.preload
    part = f"/home/{chance.choice(FOLDERS)}/"
    did, before = Did(part), world.preload.hits()
    world.preload.fail(operation, part)
    try:
        yield did
    finally:
        world.preload.fail(0, "")
        did.effect = world.preload.hits() > before


FAULTS = [
    Fault(
        f"EIO when files are {name}", partial(failing, operation=operation), lasts=(3, 12),
        group="EIO", codes=(1, 2, 3, 6), missing=missing, preload=True,
    )
    for name, operation in (("read", READS), ("written", WRITES), ("synced", SYNCS))
]  # fmt: skip
