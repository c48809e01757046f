"""The clock of the stream, set back and forth."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from random import Random
from typing import TYPE_CHECKING

from tests.chaos.faults.fault import Fault

if TYPE_CHECKING:
    from tests.chaos.world import World


def missing() -> str:
    from tests.chaos.world import FAKETIME

    return "" if FAKETIME else "libfaketime is not installed (on Debian: apt-get install faketime)"


@contextmanager
def stepped(world: World, chance: Random, by: str) -> Iterator[str]:
    """The clock of all its processes; that of senders and observer goes on."""
    aside = world.clock.with_name("clock.new")
    for text in (by, "+0"):
        aside.write_text(text)
        aside.replace(world.clock)
        if text == by:
            yield by


FAULTS = [
    Fault(f"clock {by}", partial(stepped, by=by), lasts=(5, 15), group="clock", missing=missing)
    for by in ("+1h", "-1h", "+1y", "-1y")
]
