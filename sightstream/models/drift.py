"""Drift: the distance of a stream's images from those that a model was trained on."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

LINES = 16
"""Approximate number of rows that are measured: all of a small image, a sample of a large one."""

BINS = 10
"""Bins of a statistic; each holds an equal share of the training images."""

WINDOW, FEWEST = 5_000, 300
"""Number of latest images that are compared, and the fewest that give a result."""

PER_BIN = 20
"""Images for each bin below which chance alone would look like drift."""

_CATEGORICAL = "label"
"""The statistic whose counts have no edges."""

_LUMA = (77, 150, 29)
"""ITU-R BT.601 in 256ths: the sum of three weighted bytes fits 16 bits."""


def statistics(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Measure images: uint8 (n, height, width, channels) as a network gets them.

    Returns:
        (n, 3): brightness, the mean of the luma; contrast, its standard deviation; sharpness,
        the mean difference of neighbours in a row. All from 0 to 1.
    """
    rows = pixels[:, :: max(1, pixels.shape[1] // LINES)]
    if rows.shape[-1] == 1:
        grey = rows[..., 0].astype(np.float32)
    else:
        red, green, blue = (w * rows[..., c].astype(np.uint16) for c, w in enumerate(_LUMA))
        grey = ((red + green + blue) >> 8).astype(np.float32)
    flat = grey.reshape(len(grey), -1)
    mean = flat.mean(axis=1)
    variance = np.einsum("ij,ij->i", flat, flat) / flat.shape[1] - mean**2
    steps = grey[..., 1:] - grey[..., :-1]
    sharpness = np.abs(steps, out=steps).sum(axis=(1, 2)) / max(1, steps[0].size)
    table: NDArray[np.float32] = np.stack([mean, np.sqrt(variance.clip(0)), sharpness], axis=1)
    return table / np.float32(255)


def size(width: NDArray, height: NDArray) -> NDArray[np.float32]:
    """Return the side of a square of as many pixels as each image has."""
    area: NDArray[np.float32] = width.astype(np.float32) * height.astype(np.float32)
    return np.sqrt(area)


@dataclass(frozen=True)
class Reference:
    """Distribution of each statistic over the images of a training, by name."""

    edges: dict[str, tuple[float, ...]]  # upper ends of all bins but the last, which has none
    counts: dict[str, tuple[int, ...]]  # images in each bin

    @classmethod
    def of(
        cls, values: Mapping[str, NDArray[np.float32]], categories: Mapping[str, Sequence[int]]
    ) -> Reference:
        """Make bins of equal shares, and two more for values beyond those of the training.

        A continuous statistic has a value for each image, a categorical one a count by category.
        """
        edges = {}
        for name, column in values.items():
            ends = np.quantile(column.astype(np.float64), np.linspace(0, 1, BINS + 1))
            ends[0] = np.nextafter(ends[0], -np.inf)
            edges[name] = tuple(np.unique(ends).tolist())
        counts = {name: tuple(_binned(edges[name], values[name]).tolist()) for name in values}
        return cls(edges, {**counts, **{name: tuple(c) for name, c in categories.items()}})

    @classmethod
    def from_json(cls, fields: Mapping[str, Mapping[str, list]]) -> Reference:
        """Read the result of `dataclasses.asdict` and JSON.

        Raises:
            ArithmeticError, AttributeError, KeyError, TypeError, ValueError: it is none.
        """
        kinds: dict[str, Callable[[Any], Any]] = {"edges": float, "counts": int}
        found = cls(*(
            {name: tuple(map(kind, held)) for name, held in fields[key].items()}
            for key, kind in kinds.items()
        ))  # fmt: skip
        bins = {name: len(ends) + 1 for name, ends in found.edges.items()}
        counts = {name: len(each) for name, each in found.counts.items() if name != _CATEGORICAL}
        if bins != counts:
            raise ValueError("its reference has other bins than edges")
        return found

    def binned(self, name: str, values: NDArray) -> NDArray[np.int64]:
        """Count the values in each bin or category."""
        if name in self.edges:
            return _binned(self.edges[name], values)
        return np.bincount(values, minlength=len(self.counts[name]))


class Window:
    """The latest images of a stream, as counts in the bins of a reference."""

    def __init__(self, reference: Reference) -> None:
        self._reference = reference
        self._recent = {name: deque[NDArray[np.int64]]() for name in reference.counts}
        self._sums = {name: np.zeros(len(c), np.int64) for name, c in reference.counts.items()}

    def add(self, name: str, values: NDArray) -> None:
        """Add a micro-batch's values, or numbers of categories; others remain while needed.

        A statistic that the reference does not have is ignored.
        """
        if name not in self._sums or not len(values):
            return
        counts = self._reference.binned(name, values)
        recent, size = self._recent[name], max(WINDOW, self._fewest(name))
        recent.append(counts)
        self._sums[name] = self._sums[name] + counts
        while self._sums[name].sum() - recent[0].sum() >= size:
            self._sums[name] = self._sums[name] - recent.popleft()

    def psi(self) -> dict[str, float]:
        """Return the PSI of each statistic for which there are enough images."""
        return {
            name: psi(np.array(self._reference.counts[name]), sums)
            for name, sums in self._sums.items()
            if sums.sum() >= self._fewest(name)
        }

    def _fewest(self, name: str) -> int:
        return max(FEWEST, PER_BIN * len(self._sums[name]))


def psi(expected: NDArray, actual: NDArray) -> float:
    """Return the population stability index of two histograms over the same bins.

    By convention, less than 0.1 is negligible and more than 0.25 matters (Siddiqi, Credit Risk
    Scorecards, 2006). An empty bin counts as half an image.
    """
    e, a = ((c + 0.5) / (c.sum() + 0.5 * len(c)) for c in (expected, actual))
    return float(((a - e) * np.log(a / e)).sum())


def _binned(edges: Sequence[float], values: NDArray) -> NDArray[np.int64]:
    bins = np.searchsorted(np.array(edges), values.astype(np.float64), side="left")
    return np.bincount(bins, minlength=len(edges) + 1)
