"""Assignments: the offsets of a micro-batch, and which of them each task takes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate, pairwise
from typing import NamedTuple


class Span(NamedTuple):
    """Offsets of a partition."""

    partition: int
    begin: int  # of the first message, if there is one
    end: int  # behind the last

    @property
    def size(self) -> int:
        """Number of the offsets; some may hold no message."""
        return self.end - self.begin


def spans(begins: Mapping[int, int], ends: Mapping[int, int]) -> list[Span]:
    """Return what lies between offsets, by partition; one that is new is read from its first."""
    found = [Span(number, begins.get(number, 0), end) for number, end in sorted(ends.items())]
    return [each for each in found if each.size > 0]


@dataclass(frozen=True)
class Assignment:
    """The offsets of a micro-batch, and how tasks divide them."""

    suffix: str
    """Follows the topic's name in the event ids of messages that bring none."""
    now: float
    """When the micro-batch was planned, in seconds since the epoch; the same if it comes again."""
    tasks: int
    spans: Sequence[Span]

    @classmethod
    def of(cls, text: str) -> Assignment:
        """Return what `text` has made."""
        told = json.loads(text)
        return cls(**told | {"spans": [Span(*each) for each in told["spans"]]})

    def text(self) -> str:
        """Return this as JSON."""
        return json.dumps(asdict(self))

    def share(self, task: int) -> list[Span]:
        """Return the offsets of a task: of all that follow one another, as many as others take."""
        bounds = [0, *accumulate(each.size for each in self.spans)]
        first, last = (bounds[-1] * number // self.tasks for number in (task, task + 1))
        return list(_cut(self.spans, pairwise(bounds), first, last))


def _cut(
    spans: Sequence[Span], bounds: Iterable[tuple[int, int]], first: int, last: int
) -> Iterable[Span]:
    for (number, offset, _), (start, stop) in zip(spans, bounds, strict=True):
        begin, end = max(first, start), min(last, stop)
        if begin < end:
            yield Span(number, offset + begin - start, offset + end - start)
