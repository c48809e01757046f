"""When what happens: the same in each quarter of the run, so that quarters can be compared.

A pure function of the seed.
"""

import random
from collections.abc import Mapping, Sequence

from tests.chaos.schedule import Planned, Span

QUARTERS = 4

LONGEST = 10.0
"""Seconds that a fault lasts at most: chaos has longer ones, after which the stream catches up."""

PROMOTE, REFRESH = "promote", "refresh"


def timetable(
    seed: int, seconds: float, faults: Mapping[str, Span], every: Mapping[str, float]
) -> list[Planned]:
    """A fault each minute, and other events at intervals.

    Args:
        seed: decides the order and the length of the faults.
        seconds: of the whole run.
        faults: how long each lasts, at least and at most, by name.
        every: seconds from one event to the next, by name; as often as that fits into a quarter,
            rounded, and evenly.

    Returns:
        The events in order; one of each quarter has the same `number` and length in the others.
    """
    chance, quarter = random.Random(seed), seconds / QUARTERS
    first, bag = list[Planned](), list[str]()
    for minute in range(round(quarter / 60) if faults else 0):
        if not bag:
            bag = sorted(faults)
            chance.shuffle(bag)
        name = bag.pop()
        least, most = (min(each, LONGEST) for each in faults[name])
        length = round(chance.uniform(least, most), 1)
        first.append(Planned(minute, 60 * minute + 20.0, name, length))
    for name, interval in every.items():
        count = round(quarter / interval)
        first += [
            Planned(len(first) + number, (number + 0.5) * quarter / count + 1, name, 0.0)
            for number in range(count)
        ]
    return sorted(_repeated(first, quarter), key=lambda each: each.second)


def _repeated(first: Sequence[Planned], quarter: float) -> list[Planned]:
    return [
        Planned(each.number, number * quarter + each.second, each.name, each.seconds)
        for number in range(QUARTERS)
        for each in first
    ]
