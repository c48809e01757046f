"""Operations on files that fail, as on a disk that wears out, or where a quota is used up."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from errno import EDQUOT, EIO
from functools import partial
from random import Random
from typing import TYPE_CHECKING

from tests.chaos.faults.fault import Did, Fault
from tests.chaos.preload import READS, SYNCS, WRITES, missing

if TYPE_CHECKING:
    from tests.chaos.world import World

FOLDERS = ("manifests", "checkpoints", "predictions")


@contextmanager
def failing(world: World, chance: Random, operation: int, error: int) -> Iterator[Did]:
    """One operation on the files of one folder of the home fails."""
    assert world.preload
    part = f"/home/{chance.choice(FOLDERS)}/"
    did, before = Did(part), world.preload.hits()
    world.preload.fail(operation, part, error)
    try:
        yield did
    finally:
        world.preload.rest()
        did.effect = world.preload.hits() > before


FAULTS = [
    Fault(
        name, partial(failing, operation=operation, error=error), lasts=(3, 12),
        group=name.partition(" ")[0], codes=(1, 2, 3, 6), missing=missing, preload=True,
    )
    for name, operation, error in (
        ("EIO when files are read", READS, EIO),
        ("EIO when files are written", WRITES, EIO),
        ("EIO when files are synced", SYNCS, EIO),
        ("quota", WRITES, EDQUOT),
    )
]  # fmt: skip
