"""Whether the images of today look like those that a model was trained on."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LINES = 16
"""The rows of an image that are looked at, about: all of a small one, a sample of a large one."""

BINS = 10
"""Of the training images, a tenth is in each bin."""

WINDOW, FEWEST = 5_000, 300
"""The latest images that are compared, and how many there must be."""

PER_BIN = 20
"""Images for each bin below which chance alone would look like drift."""

_LUMA = (77, 150, 29)
"""ITU-R BT.601 in 256ths: the sum of three weighted bytes fits 16 bits."""


def statistics(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What can be said of images without knowing what they show.

    Args:
        pixels: as a network gets them, uint8 (n, height, width, channels).

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
    """The side of a square of as many pixels, from the sides of images."""
    area: NDArray[np.float32] = width.astype(np.float32) * height.astype(np.float32)
    return np.sqrt(area)


@dataclass(frozen=True)
class Reference:
    """How values were distributed when a model was trained.

    Attributes:
        edges: of each statistic, the upper ends of all bins but the last, which has none.
        counts: of each statistic, the images in each bin.
    """

    edges: dict[str, tuple[float, ...]]
    counts: dict[str, tuple[int, ...]]

    @classmethod
    def of(
        cls, values: Mapping[str, NDArray[np.float32]], categories: Mapping[str, Sequence[int]]
    ) -> Reference:
        """Bins values so that each bin has the same share of them; two more are for what is new.

        Args:
            values: of each continuous statistic, a value for each image.
            categories: of each other one, the images in each category.
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
        """What `dataclasses.asdict` and JSON made of one."""
        return cls(*({n: tuple(v) for n, v in fields[key].items()} for key in ("edges", "counts")))

    def binned(self, name: str, values: NDArray) -> NDArray[np.int64]:
        """How many values are in each bin, or category."""
        if name in self.edges:
            return _binned(self.edges[name], values)
        return np.bincount(values, minlength=len(self.counts[name]))


class Window:
    """The latest images of a stream, as counts in the bins of a reference."""

    def __init__(self, reference: Reference) -> None:
        """Begins without any image."""
        self._reference = reference
        self._recent = {name: deque[NDArray[np.int64]]() for name in reference.counts}
        self._sums = {name: np.zeros(len(c), np.int64) for name, c in reference.counts.items()}

    def add(self, name: str, values: NDArray) -> None:
        """Takes the values of a micro-batch; the oldest leave when there are enough without them.

        Args:
            name: of the statistic; one that the reference does not have is left out.
            values: one for each image; categories as their numbers.
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
        """The population stability index of each statistic that enough images are known of."""
        return {
            name: psi(np.array(self._reference.counts[name]), sums)
            for name, sums in self._sums.items()
            if sums.sum() >= self._fewest(name)
        }

    def _fewest(self, name: str) -> int:
        return max(FEWEST, PER_BIN * len(self._sums[name]))


def psi(expected: NDArray, actual: NDArray) -> float:
    """The population stability index of two histograms over the same bins.

    By convention, less than 0.1 is none to speak of, and more than 0.25 a change that matters
    (Siddiqi, Credit Risk Scorecards, 2006). An empty bin counts as half an image.

    Args:
        expected: counts, of any total above 0.
        actual: counts, of any total above 0.
    """
    e, a = ((c + 0.5) / (c.sum() + 0.5 * len(c)) for c in (expected, actual))
    return float(((a - e) * np.log(a / e)).sum())


def _binned(edges: Sequence[float], values: NDArray) -> NDArray[np.int64]:
    bins = np.searchsorted(np.array(edges), values.astype(np.float64), side="left")
    return np.bincount(bins, minlength=len(edges) + 1)
