"""Kafka: the broker is killed or stands still, and the topic gets more partitions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from typing import TYPE_CHECKING

from tests.chaos.faults.fault import Fault

if TYPE_CHECKING:
    from tests.chaos.world import World

NO_BROKER = 7


@contextmanager
def killed(world: World, chance: Random) -> Iterator[str]:
    """The one broker."""
    assert world.broker
    world.broker.kill()
    try:
        yield "SIGKILL"
    finally:
        world.broker.start()


@contextmanager
def still(world: World, chance: Random) -> Iterator[str]:
    """It keeps its connections, and answers nothing."""
    assert world.broker
    world.broker.suspend()
    try:
        yield "SIGSTOP"
    finally:
        world.broker.resume()


@contextmanager
def enlarged(world: World, chance: Random) -> Iterator[str]:
    """The topic has one more partition, which senders use at once."""
    assert world.broker
    yield f"{world.enlarge()} partitions"


FAULTS = [
    Fault("kill broker", killed, lasts=(0, 15), part="kafka", codes=(NO_BROKER,)),
    Fault("stop broker", still, lasts=(5, 40), part="kafka", codes=(NO_BROKER,)),
    Fault("topic enlarged", enlarged, part="kafka"),
]
