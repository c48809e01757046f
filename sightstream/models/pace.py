"""How many images an engine gets at once: what is the fastest on this machine, by measurement."""

from collections import deque
from itertools import count
from time import process_time

import numpy as np
from numpy.typing import NDArray

from sightstream.models.engines import Predict

MOST = 64
"""Images that are predicted at once, at most."""

PIXELS = 8 * 224 * 224
"""Pixels that are predicted at once, at most, so that the memory that an engine keeps is bounded:
for MobileNetV2 10 MiB an image. No network at 224x224 was faster with more.
"""

_TRIES = 4
"""Calls of each size that are remembered. The least of them counts: others were disturbed."""

_AGAIN = 32
"""Every so many calls, a size is measured once more: the machine may have other work now."""


def fitting(height: int, width: int) -> int:
    """Return how many images of a size may be predicted at once."""
    return max(1, min(MOST, PIXELS // (height * width)))


class Paced:
    """An engine that gets images in chunks of the size that was the fastest so far.

    The first calls measure sizes 1, 2, 4, ... with the images that are there; a rest is not
    cut off from the chunk before it. The best one differs
    by network and machine: MobileNetV2 at 224x224 takes 6.7 ms an image by two, 8.6 by eight; a
    small network at 24x24 twice as long by one as by sixteen.
    """

    def __init__(self, engine: Predict, most: int) -> None:
        """Wrap an engine that may get `most` images at once."""
        self._engine, self._most = engine, most
        sizes = [1 << power for power in range(most.bit_length())]
        self._costs = {size: deque[float](maxlen=_TRIES) for size in sizes}
        self._calls = count()

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """As `Engine` describes."""
        answers, start = [], 0
        if not len(pixels):
            return self._engine(pixels)
        while start < len(pixels):
            chunk = pixels[start : start + self._size(len(pixels) - start)]
            begin = process_time()  # what other processes do meanwhile does not count
            answers.append(self._engine(chunk))
            if len(chunk) in self._costs:
                self._costs[len(chunk)].append((process_time() - begin) / len(chunk))
            start += len(chunk)
        return answers[0] if len(answers) == 1 else np.concatenate(answers)

    def _size(self, left: int) -> int:
        """Choose the fastest size, or one that is to be measured; no image is left over alone."""
        sizes = [size for size in self._costs if size <= left]
        rarest = min(sizes, key=lambda size: len(self._costs[size]))
        if len(self._costs[rarest]) < _TRIES:
            return rarest
        number = next(self._calls)
        if number % _AGAIN == 0:
            return sizes[number // _AGAIN % len(sizes)]
        known = {size: min(costs) for size, costs in self._costs.items() if costs}
        fastest = min(known, key=known.__getitem__)
        return left if left < min(2 * fastest, self._most + 1) else fastest
