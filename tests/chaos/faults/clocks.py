"""The clock of the stream, set back and forth."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from random import Random
from typing import TYPE_CHECKING

from tests.chaos.faults.fault import Did, Fault
from tests.chaos.preload import missing

if TYPE_CHECKING:
    from tests.chaos.world import World

HOUR, YEAR = 3600, 365 * 86_400


@contextmanager
def stepped(world: World, chance: Random, seconds: int) -> Iterator[Did]:
    """The clock of all its processes; that of senders, broker and observer goes on."""
    assert world.preload
    world.preload.clock(seconds)
    try:
        yield Did(f"{seconds:+d} s", delays=False)
    finally:
        world.preload.rest()


FAULTS = [
    Fault(
        f"clock {name}", partial(stepped, seconds=seconds), lasts=(5, 15), group="clock",
        missing=missing, preload=True,
    )
    for name, seconds in (("+1h", HOUR), ("-1h", -HOUR), ("+1y", YEAR), ("-1y", -YEAR))
]  # fmt: skip
