"""Processes of the stream that are killed, or stand still; and a second stream."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from random import Random
from typing import TYPE_CHECKING

import psutil

from tests.chaos.faults.fault import Fault
from tests.chaos.supervisor import JVM

if TYPE_CHECKING:
    from tests.chaos.world import World


THERE = 10.0
"""Seconds that a process is waited for: a stream that starts has no workers yet."""


def _victim(world: World, chance: Random, kind: str) -> psutil.Process | None:
    deadline = time.monotonic() + THERE
    while not (found := world.processes(kind)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return chance.choice(found) if found else None


@contextmanager
def killed(world: World, chance: Random, kind: str) -> Iterator[str]:
    """One process of a kind; the others stay, also those that a driver leaves."""
    victim = _victim(world, chance, kind)
    with suppress(psutil.Error):
        if victim:
            victim.kill()
    yield f"{victim.pid}" if victim else f"no {kind} there"


@contextmanager
def all_killed(world: World, chance: Random) -> Iterator[str]:
    """All at once, as the end of a container does."""
    world.stream.kill()
    yield "all"


@contextmanager
def still(world: World, chance: Random, kind: str) -> Iterator[str]:
    """One process gets no core, as on a machine that swaps or is moved."""
    victim = _victim(world, chance, kind)
    with suppress(psutil.Error):
        if victim:
            victim.suspend()
    try:
        yield f"{victim.pid}" if victim else f"no {kind} there"
    finally:
        with suppress(psutil.Error):
            if victim:
                victim.resume()


@contextmanager
def second(world: World, chance: Random) -> Iterator[str]:
    """A second stream on the same home: it must be refused while the first one holds it."""
    first, starts = world.stream.ready, world.stream.starts
    try:
        done = world.home("run", "--once", "--metrics-port", "0")
        said = f"{done.returncode}: {done.stderr.strip().splitlines()[-1:]}"
    except subprocess.TimeoutExpired:
        done, said = None, "it took too long"
    if done and first and starts == world.stream.starts and done.returncode != 4:
        world.ledger.wrong(f"a second run was not refused: {said}")
    yield said


FAULTS = [
    *(Fault(f"kill {kind}", partial(killed, kind=kind), codes=(JVM,))
      for kind in ("driver", "jvm", "daemon", "worker")),
    Fault("kill all", all_killed),
    *(Fault(f"stop {kind}", partial(still, kind=kind), lasts=(5, 35), group="stop",
            codes=(JVM,))
      for kind in ("driver", "jvm", "daemon", "worker")),
    Fault("second run", second, codes=(4,)),
]  # fmt: skip
