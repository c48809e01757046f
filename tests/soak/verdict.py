"""Whether a run was flat: medians of its last quarter against those of its second. Pure functions.

The first quarter is left out: caches fill, and code is compiled.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np

MEMORY, COUNTS, LATENCY = 1.03, 1.03, 1.10
"""How many times the second quarter's median the last one's may be."""

QUANTILES = (50, 95, 99)

Points = Sequence[tuple[float, float]]
"""(second, value), in order."""


@dataclass(frozen=True)
class Line:
    """What was measured over a run, and how much it may rise from its second to its last quarter.

    Attributes:
        kind: memory, open files, threads or latency.
        name: of the part, or of the quantile.
    """

    kind: str
    name: str
    points: Points
    limit: float

    def quarter(self, number: int, seconds: float) -> float:
        """The median of a quarter of the run, from 0 on; NaN where it has no point."""
        begin = number * seconds / 4
        found = [v for at, v in self.points if begin <= at < begin + seconds / 4]
        return median(found) if found else float("nan")

    def rise(self, seconds: float) -> float:
        """The last quarter's median as a multiple of the second's."""
        before, after = self.quarter(1, seconds), self.quarter(3, seconds)
        return after / before if before else 1.0 + after

    def is_flat(self, seconds: float) -> bool:
        """False also where a quarter has no point."""
        return self.rise(seconds) <= self.limit


def of_samples(samples: Iterable[Mapping[str, Any]]) -> list[Line]:
    """The lines of memory, open files and threads, of each part."""
    found = defaultdict[tuple[str, str], list[tuple[float, float]]](list)
    for sample in samples:
        for part, values in sample["parts"].items():
            for kind in ("memory", "open files", "threads"):
                found[kind, part].append((sample["second"], values[kind]))
    limits = {"memory": MEMORY}
    return [
        Line(kind, part, points, limits.get(kind, COUNTS))
        for (kind, part), points in sorted(found.items())
    ]


def of_latencies(arrived: np.ndarray, seconds: np.ndarray, every: float) -> list[Line]:
    """The lines of the latencies' quantiles.

    Args:
        arrived: when each image arrived, in seconds since the begin.
        seconds: from there to its row.
        every: seconds whose images share a point.
    """
    order = np.argsort(arrived, kind="stable")
    arrived, seconds = arrived[order], seconds[order]
    points = defaultdict[int, list[tuple[float, float]]](list)
    bins = np.arange(0, (arrived[-1] if len(arrived) else 0) + every, every)
    edges = np.searchsorted(arrived, bins)
    for at, begin, end in zip(bins, edges, edges[1:], strict=False):
        if end > begin:
            for q, value in zip(
                QUANTILES, np.percentile(seconds[begin:end], QUANTILES), strict=True
            ):
                points[q].append((float(at), float(value)))
    return [Line("latency", f"p{q}", points[q], LATENCY) for q in QUANTILES]
