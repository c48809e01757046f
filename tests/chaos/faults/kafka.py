"""Kafka: nodes that end or stand still, and topics that change under the stream."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from random import Random
from typing import TYPE_CHECKING

from tests.chaos.faults.fault import Did, Fault
from tests.chaos.preload import SYNCS, WRITES, missing

if TYPE_CHECKING:
    from tests.chaos.world import World

NO_BROKER, LOST = 7, 8

TOLD = 240.0
"""Seconds within which a stream that starts says that messages are gone."""


@contextmanager
def killed(world: World, chance: Random) -> Iterator[Did]:
    """The first node, which is the controller too."""
    assert world.kafka
    world.kafka.nodes[0].kill()
    try:
        yield Did("SIGKILL")
    finally:
        world.kafka.nodes[0].start()


@contextmanager
def still(world: World, chance: Random) -> Iterator[Did]:
    """It keeps its connections, and answers nothing."""
    assert world.kafka
    world.kafka.nodes[0].suspend()
    try:
        yield Did("SIGSTOP")
    finally:
        world.kafka.nodes[0].resume()


@contextmanager
def slow(world: World, chance: Random) -> Iterator[Did]:
    """Each write and each sync of its logs takes longer, as on a disk that others use."""
    assert world.broker_preload
    before, seconds = world.broker_preload.hits(), round(chance.uniform(0.2, 2), 1)
    world.broker_preload.delay(WRITES | SYNCS, "/logs/", seconds)
    did = Did(f"{seconds} s each")
    try:
        yield did
    finally:
        world.broker_preload.rest()
        did.effect = world.broker_preload.hits() > before


@contextmanager
def enlarged(world: World, chance: Random) -> Iterator[Did]:
    """The topic has one more partition, which senders use at once."""
    assert world.kafka
    yield Did(f"{world.kafka.enlarge()} partitions", delays=False)


@contextmanager
def leaders(world: World, chance: Random, how: str) -> Iterator[Did]:
    """The second node ends: partitions that it led get the first one as their leader."""
    assert world.kafka
    second = world.kafka.nodes[1]
    second.kill() if how == "SIGKILL" else second.stop()
    try:
        yield Did(how)
    finally:
        second.start()
        world.kafka.lead_as_before()


@contextmanager
def denied(world: World, chance: Random) -> Iterator[Did]:
    """Nobody may read the topic any more; senders may write."""
    assert world.kafka
    world.kafka.deny_reading()
    try:
        yield Did("reading is denied")
    finally:
        world.kafka.allow_reading()


@contextmanager
def deleted(world: World, chance: Random) -> Iterator[Did]:
    """Messages are deleted before they were read: the stream must say so, and not go on by itself.

    The supervisor then does what its last line says.
    """
    world.stream.hold()
    time.sleep(2)  # senders go on
    with world.senders_resting():
        unread = world.delete_messages()
    begin = time.time()
    world.stream.release()
    if not unread:
        yield Did("no message was unread", effect=False)
        return
    deadline = time.monotonic() + TOLD
    while time.monotonic() < deadline and not world.ledger.has_ended(LOST, begin):
        if world.stream.ready:
            break
        time.sleep(0.2)
    if not world.ledger.has_ended(LOST, begin):
        world.ledger.wrong(f"messages were deleted unread, and the stream does not end with {LOST}")
    yield Did(f"{unread} messages")


FAULTS = [
    Fault("kill broker", killed, lasts=(0, 15), part="kafka", codes=(NO_BROKER,)),
    Fault("stop broker", still, lasts=(5, 40), part="kafka", codes=(NO_BROKER,)),
    Fault("slow disk of the broker", slow, lasts=(5, 30), part="kafka", codes=(NO_BROKER,),
          missing=missing, preload=True),
    Fault("topic enlarged", enlarged, part="kafka"),
    Fault("reading denied", denied, lasts=(5, 20), part="kafka", codes=(1, NO_BROKER)),
    Fault("messages deleted", deleted, part="kafka", codes=(LOST,)),
    *(Fault(f"leader {name}", partial(leaders, how=how), lasts=(5, 20), part="nodes",
            group="leader", codes=(NO_BROKER,))
      for name, how in (("leaves", "SIGTERM"), ("killed", "SIGKILL"))),
]  # fmt: skip
