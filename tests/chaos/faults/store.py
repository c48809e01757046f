"""The object store that holds the table: it refuses, is slow, or forgets to say what it did."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from random import Random
from typing import TYPE_CHECKING

from tests.chaos.faults.fault import Did, Fault

if TYPE_CHECKING:
    from tests.chaos.world import World

SOME = 0.3
"""Share of requests that get the fault: a store that answers none is a store that is away."""


@contextmanager
def faulty(world: World, chance: Random, mode: str, share: float) -> Iterator[Did]:
    """A share of the requests gets a fault of a mode; see `tests.chaos.store`."""
    assert world.store
    world.store.faulty = lambda method, path: chance.random() < share
    did, before = Did(mode), world.store.faults
    world.store.mode = mode
    try:
        yield did
    finally:
        world.store.mode = "good"
        did.effect = world.store.faults > before


FAULTS = [
    Fault(f"store {mode}{name}", partial(faulty, mode=mode, share=share), lasts=(4, 20),
          part="store", codes=(1, 2, 3, 6))
    for mode, name, share in (("refuses", "", SOME), ("refuses", " all", 1.0), ("slow", "", 1.0),
                              ("forgets", "", SOME))
]  # fmt: skip
