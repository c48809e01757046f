"""The registry and its models: a new champion, and a database that is locked, or away."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from random import Random
from typing import TYPE_CHECKING

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
    world.registry.promote("starter", world.promoted)
    yield f"version {world.promoted}"


@contextmanager
def locked(world: World, chance: Random) -> Iterator[str]:
    """Another program holds the database, and the stream may have to start meanwhile."""
    with closing(sqlite3.connect(world.home.settings.registry / "mlflow.db", timeout=30)) as held:
        held.execute("BEGIN EXCLUSIVE")
        if again := chance.random() < 0.5:
            world.stream.kill()
        yield "and the stream is started anew" if again else "while the stream runs"
        held.rollback()


@contextmanager
def away(world: World, chance: Random) -> Iterator[str]:
    """The database and the artifacts are not where they were."""
    registry = world.home.settings.registry
    aside = registry.with_name("registry.away")
    registry.rename(aside)
    try:
        if again := chance.random() < 0.5:
            world.stream.kill()
        yield "and the stream is started anew" if again else "while the stream runs"
    finally:
        if registry.exists():
            world.ledger.wrong(f"{registry} was made anew where the registry had been moved away")
            registry.rename(registry.with_name(f"registry.made-{chance.random()}"))
        aside.rename(registry)


FAULTS = [
    Fault("new champion", promoted),
    Fault("registry locked", locked, lasts=(5, 25), codes=(NO_MODEL,)),
    Fault("registry away", away, lasts=(5, 20), codes=(NO_MODEL,)),
]
