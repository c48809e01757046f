"""A second home that writes into the same table, and a page that reads it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from random import Random
from typing import TYPE_CHECKING

from tests.chaos.checker import DEADLINE
from tests.chaos.faults.fault import Did, Fault
from tests.conftest import end_session
from tests.page import LIVE, opened

if TYPE_CHECKING:
    from tests.chaos.world import World


@contextmanager
def second(world: World, chance: Random) -> Iterator[Did]:
    """Has an inbox, checkpoints and a stream of its own, with images that nobody else gets."""
    name = f"second-{chance.randrange(10**6)}"
    said = world.folder / f"said-{name}"
    said.mkdir()
    home, sender = world.second_home(name)
    stream = world.supervised(home, said)
    with ExitStack() as stack:
        stack.callback(lambda: world.end(stream))
        stream.start()
        sender.start()
        yield Did(name, delays=False)
        world.drain(DEADLINE, [sender], name)


@contextmanager
def page(world: World, chance: Random) -> Iterator[Did]:
    """Is killed while it shows the table, which it reads each second."""
    with world.home.serving() as process, opened(process.url, LIVE) as said:
        for each in said:
            if each.delta.new_element.HasField("exception"):
                world.ledger.wrong(f"the page shows an error: {each.delta.new_element.exception}")
            if each.HasField("script_finished"):
                break
        yield Did(f"{process.url} shows the table, and will be killed", delays=False)
        end_session(process)


FAULTS = [
    Fault("second home", second, lasts=(15, 30)),
    Fault("kill page", page, lasts=(1, 6)),
]
