"""The pixels that decide: a patch is hidden, and the score falls. It works with any engine."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from sightstream.models.engines import Predict

PATCHES = 6
"""Patches along a side; they overlap by half, so that some 170 copies of an image are predicted."""

_BATCH = 64


def occlusion(engine: Predict, pixels: NDArray[np.uint8], label: int) -> NDArray[np.float32]:
    """Compute the occlusion map (Zeiler and Fergus 2014, arXiv:1311.2901) for a label's index.

    Returns:
        float32 (height, width): the fall of the label's score, averaged over the patches that hide
        the pixel; from -1, where hiding it makes the label certain, to 1.
    """
    height, width, _ = pixels.shape
    patches = [(y, x) for y in _patches(height) for x in _patches(width)]
    hidden = pixels.mean(axis=(0, 1)).astype(np.uint8)
    score = engine(pixels[None])[0, label]
    total, times = np.zeros((height, width), np.float32), np.zeros((height, width), np.float32)
    for start in range(0, len(patches), _BATCH):
        batch = patches[start : start + _BATCH]
        copies = np.repeat(pixels[None], len(batch), axis=0)
        for copy, patch in zip(copies, batch, strict=True):
            copy[patch] = hidden
        for patch, left in zip(batch, engine(copies)[:, label], strict=True):
            total[patch] += score - left
            times[patch] += 1
    return total / times


def _patches(side: int) -> Iterator[slice]:
    step = max(1, round(side / PATCHES / 2))
    for begin in range(-step, side, step):
        yield slice(max(0, begin), begin + 2 * step)
