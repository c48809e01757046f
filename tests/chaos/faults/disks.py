"""Disks: full, without inodes, read-only, and without power."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from typing import TYPE_CHECKING

from tests.chaos.disks import Disk, missing
from tests.chaos.faults.fault import Did, Fault

if TYPE_CHECKING:
    from tests.chaos.world import World

DAMAGE = (1, 2, 3, 5, 6)
"""Exit codes of a stream that cannot write or read its home."""


def _either(world: World, chance: Random) -> Disk:
    assert world.disk and world.manifests
    return chance.choice([world.disk, world.manifests])


@contextmanager
def full(world: World, chance: Random) -> Iterator[Did]:
    """No byte is left where the home is, or where its manifests are."""
    disk = _either(world, chance)
    filler = disk.fill()
    try:
        yield Did(disk.place.name)
    finally:
        filler.unlink()


@contextmanager
def no_inodes(world: World, chance: Random) -> Iterator[Did]:
    """No file can be made, though there are bytes."""
    disk = _either(world, chance)
    fillers = disk.fill_inodes()
    try:
        yield Did(disk.place.name)
    finally:
        shutil.rmtree(fillers)


@contextmanager
def read_only(world: World, chance: Random) -> Iterator[Did]:
    """As after an error of the device; the stream is started again and again meanwhile."""
    disk = _either(world, chance)
    world.stream.hold()
    with world.senders_resting():
        disk.read_only(True)
    try:
        world.stream.release()
        yield Did(disk.place.name)
    finally:
        disk.read_only(False)


@contextmanager
def no_power(world: World, chance: Random, *, home: bool) -> Iterator[Did]:
    """All processes end, and what was not written to a device is gone."""
    disk = world.disk if home else world.manifests
    assert disk
    world.stream.hold()
    try:
        with world.senders_resting():
            disk.lose_power()
    finally:
        world.stream.release()
    yield Did(disk.place.name)


@contextmanager
def _manifests(world: World, chance: Random) -> Iterator[Did]:
    with no_power(world, chance, home=False) as did:
        yield did


@contextmanager
def _home(world: World, chance: Random) -> Iterator[Did]:
    world.observer.excused = True  # what was not synced is gone, and the stream must start
    with no_power(world, chance, home=True) as did:
        yield did


FAULTS = [
    Fault("disk full", full, lasts=(4, 20), codes=DAMAGE, champions=0.0, missing=missing),
    Fault("no inodes", no_inodes, lasts=(4, 20), codes=DAMAGE, champions=0.0, missing=missing),
    Fault("read-only", read_only, lasts=(4, 12), codes=DAMAGE, champions=0.0, missing=missing),
    Fault("no power of the manifests", _manifests, missing=missing),
    Fault("no power of the home", _home, codes=DAMAGE, champions=0.0, missing=missing, usual=False),
]
