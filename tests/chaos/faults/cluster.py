"""A Spark cluster: its JVMs are killed, and come back, or stand still until it gives them up."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from random import Random
from typing import TYPE_CHECKING

from tests.chaos.faults.fault import Did, Fault
from tests.chaos.faults.processes import killed, still

if TYPE_CHECKING:
    from tests.chaos.world import World

UNFIT = 3
"""Exit code of a start that finds no cluster, or one without workers."""


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
    Fault("kill executor", partial(killed, kind="executor"), part="cluster", codes=(UNFIT,)),
    Fault("kill cluster's worker", worker, lasts=(2, 20), part="cluster", codes=(UNFIT,)),
    Fault("kill cluster's master", master, lasts=(2, 20), part="cluster", codes=(UNFIT,)),
    *(Fault(f"stop {kind}", partial(still, kind=kind), lasts=(10, 40), part="cluster",
            codes=(UNFIT,))
      for kind in ("executor", "cluster's worker", "cluster's master")),
]  # fmt: skip
