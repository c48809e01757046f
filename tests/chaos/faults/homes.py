"""A second home that writes into the same table, and a page that reads it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from random import Random
from typing import TYPE_CHECKING
from urllib.request import urlopen

from tests.chaos.checker import DEADLINE
from tests.chaos.faults.fault import Fault

if TYPE_CHECKING:
    from tests.chaos.world import World


@contextmanager
def second(world: World, chance: Random) -> Iterator[str]:
    """Has an inbox, checkpoints and a stream of its own, with images that nobody else gets."""
    name = f"second-{chance.randrange(10**6)}"
    said = world.folder / f"said-{name}"
    said.mkdir()
    home, sender = world.second_home(name)
    stream = world.supervised(home, said)
    with ExitStack() as stack:
        stack.callback(stream.end)
        stream.start()
        sender.start()
        yield name
        world.drain(DEADLINE, [sender], name)


@contextmanager
def page(world: World, chance: Random) -> Iterator[str]:
    """Is killed while it shows the table."""
    with world.home.serving() as process:
        with urlopen(process.url, timeout=30) as answer:
            answer.read()
        yield f"{process.url} is there, and will be killed"


FAULTS = [
    Fault("second home", second, lasts=(15, 30)),
    Fault("kill page", page, lasts=(1, 6)),
]
