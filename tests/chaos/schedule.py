"""The schedule of faults, a pure function of the seed, and the search for a shorter one."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

FIRST = 12.0
"""Seconds until the first fault: a stream that has not begun is a case of its own, further on."""

LAST = 15.0
"""Seconds before the end without a new fault."""

PAUSE = 5.0
"""Mean seconds between the end of a fault and the next: often less than a start of the stream."""

T = TypeVar("T")

Span = tuple[float, float]


@dataclass(frozen=True)
class Planned:
    """A fault at a second of the run, and for how many seconds."""

    number: int
    second: float
    name: str
    seconds: float

    def __str__(self) -> str:
        lasts = f" for {self.seconds:.1f} s" if self.seconds else ""
        return f"{self.number:3d}  {self.second:6.1f} s  {self.name}{lasts}"


def plan(
    seed: int, seconds: float, groups: Mapping[str, Mapping[str, Span]]
) -> list[Planned]:  # fmt: skip
    """Plans faults one after the other; one of each group comes before another of any does.

    Args:
        seed: decides everything else.
        seconds: of the whole run.
        groups: how long each fault lasts, at least and at most, by group and name.
    """
    chance, found, bag = random.Random(seed), list[Planned](), list[str]()
    second = FIRST
    while second < seconds - LAST:
        if not bag:
            bag = sorted(groups)
            chance.shuffle(bag)
        group = groups[bag.pop()]
        name = chance.choice(sorted(group))
        length = round(chance.uniform(*group[name]), 1)
        found.append(Planned(len(found), round(second, 1), name, length))
        second += length + max(0.5, chance.expovariate(1 / PAUSE))
    return found


def shrunk(items: Sequence[T], fails: Callable[[Sequence[T]], bool], runs: int) -> Sequence[T]:
    """Leaves items out as long as it still fails: ddmin (Zeller and Hildebrandt, 2002).

    Args:
        items: fail together.
        fails: whether some of them do.
        runs: times that it may be asked, at most.
    """
    parts = 2
    while len(items) > 1 and runs:
        size = -(-len(items) // parts)
        pieces = [items[at : at + size] for at in range(0, len(items), size)]
        rests = [[i for other in pieces if other is not each for i in other] for each in pieces]
        for number, some in enumerate([*pieces, *rests] if len(pieces) > 2 else pieces):
            if not runs:
                return items
            runs -= 1
            if fails(some):
                items, parts = some, 2 if number < len(pieces) else max(parts - 1, 2)
                break
        else:
            if parts >= len(items):
                break
            parts = min(len(items), 2 * parts)
    return items
