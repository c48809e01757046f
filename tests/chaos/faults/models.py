"""The registry and its models: new champions, good and bad, and a registry that is away."""

from __future__ import annotations

import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from random import Random
from typing import TYPE_CHECKING

from tests.chaos.engine import FAULTS as BAD
from tests.chaos.faults.fault import Fault

if TYPE_CHECKING:
    from tests.chaos.world import World

NO_MODEL = 5


@contextmanager
def promoted(world: World, chance: Random) -> Iterator[str]:
    """The next version, which is equal to the one before, becomes champion."""
    if world.promoted == world.versions:
        yield "no version is left"
        return
    world.promoted += 1
    world.ledger.promoted(world.promoted)
    world.promote(world.promoted)
    yield f"version {world.promoted}"


@contextmanager
def unfit(world: World, chance: Random, kind: str) -> Iterator[str]:
    """A version with a fault becomes champion, and is rolled back; no row may be its.

    A stream that starts loads it in its own process, which ends as the version ends it, or waits
    as long as it does.
    """
    world.promote(world.bad[kind])
    try:
        yield "while the stream runs" if kind == "hangs" else _perhaps_killed(world, chance)
    finally:
        world.promote(world.promoted)


@contextmanager
def locked(world: World, chance: Random) -> Iterator[str]:
    """Another program holds the database, and the stream may have to start meanwhile."""
    with closing(sqlite3.connect(world.registry / "mlflow.db", timeout=30)) as held:
        held.execute("BEGIN EXCLUSIVE")
        yield _perhaps_killed(world, chance)
        held.rollback()


@contextmanager
def away(world: World, chance: Random) -> Iterator[str]:
    """The database and the artifacts are not where they were."""
    if world.mlflow:
        yield "nothing: a server has them open"
        return
    aside = world.registry.with_name("registry.away")
    world.registry.rename(aside)
    try:
        yield _perhaps_killed(world, chance)
    finally:
        if world.registry.exists():
            world.ledger.wrong(f"{world.registry} was made anew where it had been moved away")
            world.registry.rename(world.registry.with_name(f"registry.made-{chance.random()}"))
        aside.rename(world.registry)


@contextmanager
def server_killed(world: World, chance: Random) -> Iterator[str]:
    """MLflow's server, for a while."""
    assert world.mlflow
    world.mlflow.kill()
    try:
        yield _perhaps_killed(world, chance)
    finally:
        world.mlflow.start()


@contextmanager
def server_still(world: World, chance: Random) -> Iterator[str]:
    """It takes connections, and answers nothing."""
    assert world.mlflow
    world.mlflow.suspend()
    try:
        yield _perhaps_killed(world, chance)
    finally:
        world.mlflow.resume()


@contextmanager
def server(world: World, chance: Random, mode: str) -> Iterator[str]:
    """It is slow, or refuses; see `tests.chaos.store`."""
    assert world.mlflow
    world.mlflow.proxy.mode = mode
    try:
        yield _perhaps_killed(world, chance)
    finally:
        world.mlflow.proxy.mode = "good"


def _perhaps_killed(world: World, chance: Random) -> str:
    if chance.random() < 0.5:
        return "while the stream runs"
    world.stream.kill()
    return "and the stream is started anew"


FAULTS = [
    Fault("new champion", promoted),
    *(Fault(f"champion that {kind}", partial(unfit, kind=kind), lasts=(5, 20),
            group="unfit champion", codes=(NO_MODEL, -signal.SIGSEGV))
      for kind in BAD),
    Fault("registry locked", locked, lasts=(5, 25), codes=(NO_MODEL,)),
    Fault("registry away", away, lasts=(5, 20), codes=(NO_MODEL,)),
    Fault("kill MLflow", server_killed, lasts=(2, 15), part="mlflow", codes=(NO_MODEL,)),
    Fault("stop MLflow", server_still, lasts=(5, 30), part="mlflow", codes=(NO_MODEL,)),
    *(Fault(f"MLflow {mode}", partial(server, mode=mode), lasts=(5, 20), part="mlflow",
            group="MLflow", codes=(NO_MODEL,))
      for mode in ("slow", "refuses")),
]  # fmt: skip
