"""The registry and its models: new champions, good and bad, and a registry that is away."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from random import Random
from typing import TYPE_CHECKING

from sightstream.scoring.child import LOADING
from tests.chaos.engine import FAULTS as BAD
from tests.chaos.engine import UNBOUND
from tests.chaos.faults.fault import Did, Fault

if TYPE_CHECKING:
    from tests.chaos.world import World

NO_MODEL = 5


@contextmanager
def promoted(world: World, chance: Random) -> Iterator[Did]:
    """The next version, with the labels in another order, becomes champion."""
    if world.promoted == world.versions:
        yield Did("no version is left", effect=False)
        return
    world.promoted += 1
    world.ledger.promoted(world.promoted, world.labels(world.promoted))
    world.promote(world.promoted)
    yield Did(f"version {world.promoted}", delays=False)


@contextmanager
def unfit(world: World, chance: Random, kind: str) -> Iterator[Did]:
    """A version with a fault becomes champion, and is rolled back; no row may be its.

    A stream that starts waits `LOADING` for one that hangs, whatever is champion meanwhile.
    """
    if kind == "hangs" and not world.stream.ready:
        yield Did("the stream is not ready", effect=False)
        return
    before = len(world.tried())
    world.promote(world.bad[kind])
    try:
        did = Did(RUNS, delays=False) if kind == "hangs" else _perhaps_killed(world, chance)
        yield did
    finally:
        world.promote(world.promoted)
        tried = world.tried()[before:]
        did.effect = bool(tried)
        if any(each.endswith(UNBOUND) for each in tried):
            world.ledger.wrong(f"the process that loads a champion {UNBOUND}")


@contextmanager
def locked(world: World, chance: Random) -> Iterator[Did]:
    """Another program holds the database, and the stream may have to start meanwhile."""
    with closing(sqlite3.connect(world.registry / "mlflow.db", timeout=30)) as held:
        held.execute("BEGIN EXCLUSIVE")
        yield _perhaps_killed(world, chance)
        held.rollback()


@contextmanager
def away(world: World, chance: Random) -> Iterator[Did]:
    """The database and the artifacts are not where they were."""
    if world.mlflow:
        yield Did("nothing: a server has them open", effect=False)
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
def server_killed(world: World, chance: Random) -> Iterator[Did]:
    """MLflow's server, for a while."""
    assert world.mlflow
    world.mlflow.kill()
    try:
        yield _perhaps_killed(world, chance)
    finally:
        world.mlflow.start()


@contextmanager
def server_still(world: World, chance: Random) -> Iterator[Did]:
    """It takes connections, and answers nothing."""
    assert world.mlflow
    world.mlflow.suspend()
    try:
        yield _perhaps_killed(world, chance)
    finally:
        world.mlflow.resume()


@contextmanager
def server(world: World, chance: Random, mode: str) -> Iterator[Did]:
    """It is slow, or refuses; see `tests.chaos.store`."""
    assert world.mlflow
    world.mlflow.proxy.mode = mode
    try:
        yield _perhaps_killed(world, chance)
    finally:
        world.mlflow.proxy.mode = "good"


def _perhaps_killed(world: World, chance: Random) -> Did:
    if chance.random() < 0.5:
        return Did(RUNS, delays=False)
    world.stream.kill()
    return Did("and the stream is started anew")


RUNS = "while the stream runs"

FAULTS = [
    Fault("new champion", promoted, champions=0.0),
    *(Fault(f"champion that {kind}", partial(unfit, kind=kind), lasts=(5, 20),
            group="unfit champion", codes=(NO_MODEL,),
            champions=LOADING if kind == "hangs" else 0.0)
      for kind in BAD),
    Fault("registry locked", locked, lasts=(5, 25), codes=(NO_MODEL,), champions=0.0),
    Fault("registry away", away, lasts=(5, 20), codes=(NO_MODEL,), champions=0.0),
    Fault("kill MLflow", server_killed, lasts=(2, 15), part="mlflow", codes=(NO_MODEL,),
          champions=0.0),
    Fault("stop MLflow", server_still, lasts=(5, 30), part="mlflow", codes=(NO_MODEL,),
          champions=0.0),
    *(Fault(f"MLflow {mode}", partial(server, mode=mode), lasts=(5, 20), part="mlflow",
            group="MLflow", codes=(NO_MODEL,), champions=0.0)
      for mode in ("slow", "refuses")),
]  # fmt: skip
