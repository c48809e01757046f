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

from tests.chaos.faults.fault import Did, Fault
from tests.chaos.supervisor import JVM

if TYPE_CHECKING:
    from tests.chaos.world import World


HELD = 4
"""Exit code of a run whose home another one holds."""

THERE = 10.0
"""Seconds that a process is waited for: a stream that starts has no workers yet."""


def _victim(world: World, chance: Random, kind: str) -> psutil.Process | None:
    deadline = time.monotonic() + THERE
    while not (found := world.processes(kind)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return chance.choice(found) if found else None


@contextmanager
def killed(world: World, chance: Random, kind: str) -> Iterator[Did]:
    """One process of a kind; the others stay, also those that a driver leaves."""
    victim = _victim(world, chance, kind)
    did = Did(f"{victim.pid}" if victim else f"no {kind} there", bool(victim))
    if victim:
        world.stream.killed.add(victim.pid)
        try:
            victim.kill()
        except psutil.Error:
            did.effect = False
    yield did


@contextmanager
def all_killed(world: World, chance: Random) -> Iterator[Did]:
    """All at once, as the end of a container does."""
    alive = bool(world.processes("driver"))
    world.stream.kill()
    yield Did("all", alive)


@contextmanager
def still(world: World, chance: Random, kind: str) -> Iterator[Did]:
    """One process gets no core, as on a machine that swaps or is moved."""
    victim = _victim(world, chance, kind)
    did = Did(f"{victim.pid}" if victim else f"no {kind} there", bool(victim))
    try:
        if victim:
            victim.suspend()
    except psutil.Error:
        did.effect = False
    try:
        yield did
    finally:
        with suppress(psutil.Error):
            if victim:
                victim.resume()


@contextmanager
def second(world: World, chance: Random) -> Iterator[Did]:
    """A second stream on the same home: it must be refused while the first one holds it."""
    first, starts = world.stream.ready, world.stream.starts
    try:
        done = world.home("run", "--once", "--metrics-port", "0")
    except subprocess.TimeoutExpired:
        world.ledger.wrong("a second run did not end")
        yield Did("it did not end", delays=False)
        return
    code, said = done.returncode, f"{done.returncode}: {done.stderr.strip().splitlines()[-1:]}"
    if first and starts == world.stream.starts and code != HELD:
        world.ledger.wrong(f"a second run was not refused: {said}")
    elif code not in {0, HELD} and not world.stream.explains(code):
        world.ledger.wrong(f"a second run ended for no fault: {said}")
    yield Did(said, delays=False)


FAULTS = [
    *(Fault(f"kill {kind}", partial(killed, kind=kind), codes=(JVM,) if kind == "jvm" else ())
      for kind in ("driver", "jvm", "daemon", "worker")),
    Fault("kill all", all_killed),
    *(Fault(f"stop {kind}", partial(still, kind=kind), lasts=(5, 35), group="stop",
            champions=0.0 if kind == "driver" else None)
      for kind in ("driver", "jvm", "daemon", "worker")),
    Fault("second run", second, codes=(HELD,)),
]  # fmt: skip
