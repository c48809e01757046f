"""One run: the world is made, the faults of a schedule come, and what is left is compared."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from threading import Event

from sightstream.config import Settings
from tests.chaos import checker, faults
from tests.chaos.schedule import Planned
from tests.chaos.world import World

START = 240.0
"""Seconds within which the stream must be ready for the first time."""

STARTS = 6
"""Times as long as that start may an image wait for its row, where that is over `DEADLINE`."""

LONGEST = 180.0
"""Seconds that an image may wait for its row at most, however slow the machine is."""

PROGRESS = 10.0
"""Seconds between two lines that show how far it is."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Given:
    """What runs have in common.

    Attributes:
        starter: settings of the home with the starter model.
        parts: as `World` takes them.
        bug: one of `bugs.BUGS`, or empty.
        seconds: of a whole run.
    """

    starter: Settings
    parts: Sequence[str]
    seed: int
    seconds: float
    bug: str = ""


@dataclass(frozen=True)
class Outcome:
    """What a run has shown.

    Attributes:
        sent: images that had arrived.
        differences: what is wrong; empty where all is right.
        pauses: the longest wait of a good image for its row in seconds, by fault.
        effects: how many faults of a name had an effect, and how many there were.
        excused: how many images have no row and need none, by the reason.
    """

    sent: int
    rows: int
    starts: int
    differences: Sequence[str]
    pauses: dict[str, float]
    parts: Sequence[str]
    effects: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    excused: Mapping[str, int] = field(default_factory=dict)


def run(given: Given, planned: Sequence[Planned], folder: Path, say: Say) -> Outcome:
    """Runs it in a new folder, which is kept."""
    preload = any(faults.ALL[each.name].preload for each in planned)
    with World(
        folder, given.starter, given.parts, given.seed, bug=given.bug, preload=preload
    ) as world:
        # On a busy machine, a start takes minutes.
        deadline = min(LONGEST, max(checker.DEADLINE, STARTS * _until_ready(world)))
        begin = time.monotonic()
        for each in planned:
            _wait(world, begin + each.second, say, begin)
            if each.number % 2 == 0:  # the others may meet a stream that starts
                begin += _rows(world, deadline)
            _do(world, given.seed, each, say)
        _wait(world, begin + given.seconds, say, begin)
        world.drain(deadline)
        world.stop()
        rows, entries, topic = world.observer.rows(), world.ledger.entries(), world.topic()
        return Outcome(
            len({each["id"] for each in entries if each["kind"] == "sent"}), len(rows),
            world.stream.starts, list(checker.differences(rows, entries, topic, deadline)),
            checker.pauses(rows, entries), given.parts, checker.effects(entries),
            checker.excused(rows, entries),
        )  # fmt: skip


def _do(world: World, seed: int, planned: Planned, say: Say) -> None:
    fault, chance = faults.ALL[planned.name], Random(f"{seed} {planned.number}")
    begin = time.time()
    with world.stream.explained(fault.codes), fault.act(world, chance) as did:
        say(f"{planned}: {did.what}")
        time.sleep(planned.seconds)
    if not did.effect:
        say(f"       {planned.name} had no effect")
    # Whatever comes while the stream starts may hold the start up.
    delays = did.delays or not world.stream.ready
    world.ledger.fault(planned.name, begin, did.what, effect=did.effect, delays=delays,
                       champions=fault.champions)  # fmt: skip


def _rows(world: World, seconds: float) -> float:
    """Waits until the stream writes rows, at most so long; returns for how many seconds."""
    begin, before = time.monotonic(), len(world.observer.seen)
    while len(world.observer.seen) == before:
        if time.monotonic() > begin + seconds:
            world.ledger.wrong(f"no row came within {seconds:.0f} s while no fault was under way")
            break
        time.sleep(0.1)
    return time.monotonic() - begin


def _until_ready(world: World) -> float:
    """Returns the seconds that the start took."""
    begin = time.monotonic()
    deadline = begin + START
    while not world.stream.ready:
        if time.monotonic() > deadline:
            raise TimeoutError(f"the stream did not start: {world.stream.said.read_text()}")
        time.sleep(0.1)
    return time.monotonic() - begin


def _wait(world: World, until: float, say: Say, begin: float) -> None:
    while (left := until - time.monotonic()) > 0:
        Event().wait(min(left, PROGRESS))
        for each in world.senders:
            if each.error:
                raise each.error
        say(
            f"       {time.monotonic() - begin:5.0f} s  {world.ledger.acknowledged} sent, "
            f"{len(world.observer.seen)} rows, started {world.stream.starts} times"
        )
