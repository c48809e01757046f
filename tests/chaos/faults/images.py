"""Images that end the process which decodes them, or hold it up."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from random import Random
from typing import TYPE_CHECKING

from tests.chaos.faults.fault import Did, Fault

if TYPE_CHECKING:
    from tests.chaos.world import World


@contextmanager
def bad(world: World, chance: Random, kind: str) -> Iterator[Did]:
    """One, among others, from each sender."""
    for sender in world.senders:
        sender.extra.append(getattr(sender.pictures, kind)())
    yield Did(f"{len(world.senders)} of them")


FAULTS = [
    Fault(f"{kind} image", partial(bad, kind=kind), group="image") for kind in ("lethal", "endless")
]
