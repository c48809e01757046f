"""Images that end the process which decodes them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from typing import TYPE_CHECKING

from tests.chaos.faults.fault import Fault

if TYPE_CHECKING:
    from tests.chaos.world import World


@contextmanager
def lethal(world: World, chance: Random) -> Iterator[str]:
    """One, among others, from each sender."""
    for sender in world.senders:
        sender.extra.append(sender.pictures.lethal())
    yield f"{len(world.senders)} of them"


FAULTS = [Fault("lethal image", lethal)]
