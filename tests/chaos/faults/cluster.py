"""A Spark cluster: executors and workers that are killed, and a master that is started anew."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from random import Random
from typing import TYPE_CHECKING

import psutil

from tests.chaos.faults.fault import Did, Fault

if TYPE_CHECKING:
    from tests.chaos.world import World

UNFIT = 3
"""Exit code of a start that finds no cluster, or one without workers."""


@contextmanager
def executor(world: World, chance: Random) -> Iterator[Did]:
    """The JVM that runs tasks, with what it started; its worker starts another."""
    assert world.cluster
    found = world.cluster.executors()
    victim = chance.choice(found) if found else None
    with suppress(psutil.Error):
        if victim:
            victim.kill()
    yield Did(f"{victim.pid}") if victim else Did("no executor there", effect=False)


@contextmanager
def worker(world: World, chance: Random) -> Iterator[Did]:
    """A machine of the cluster, which comes back."""
    assert world.cluster
    number = chance.randrange(WORKERS)
    world.cluster.end_worker(number)
    try:
        yield Did(f"worker {number}")
    finally:
        world.cluster.start_worker(number)


@contextmanager
def master(world: World, chance: Random) -> Iterator[Did]:
    """The master, which comes back with what it had written down; the workers go on meanwhile."""
    assert world.cluster
    world.cluster.end_master()
    try:
        yield Did("SIGKILL")
    finally:
        world.cluster.start_master()


WORKERS = 2

FAULTS = [
    Fault("kill executor", executor, part="cluster", codes=(UNFIT,)),
    Fault("kill cluster's worker", worker, lasts=(2, 20), part="cluster", codes=(UNFIT,)),
    Fault("kill cluster's master", master, lasts=(2, 20), part="cluster", codes=(UNFIT,)),
]
