"""What a fault is."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.chaos.world import World


@dataclass
class Did:
    """What a fault did; acts may change it until they end.

    Attributes:
        what: in words.
        effect: False where there was nothing to do it to, or nothing met it.
        delays: whether images may wait for its end.
    """

    what: str
    effect: bool = True
    delays: bool = True


@dataclass(frozen=True)
class Fault:
    """A fault.

    Attributes:
        name: of the fault in schedules.
        act: does it, yields what it did, and undoes it.
        lasts: seconds between both, at least and at most.
        group: of faults that are alike, of which a schedule takes one at a time; empty: itself.
        part: of the world that it needs: kafka, store or cluster; empty: none but the stream.
        codes: exit codes of the stream that it explains, and `supervisor.JVM`.
        champions: seconds after its end for which it may hold up a new champion; None: it does not.
        missing: why it cannot be here; empty where it can.
        preload: whether stream and broker need `tests.chaos.preload`.
        usual: False where it must be asked for by its name: more is lost then than is promised.
    """

    name: str
    act: Callable[[World, Random], AbstractContextManager[Did]]
    lasts: tuple[float, float] = (0.0, 0.0)
    group: str = ""
    part: str = ""
    codes: tuple[int | str, ...] = ()
    champions: float | None = None
    missing: Callable[[], str] = str
    preload: bool = False
    usual: bool = True
