"""Copies of one picture in a data set, as augmentation, resizing and encoding anew make them.

Pictures are compared by thumbnails of 8x8 grey pixels, whatever their brightness and contrast, in
all eight ways to mirror and to turn one by right angles.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE = 8  # pixels of a thumbnail's side
ALIKE = 0.98  # correlation from which two thumbnails are of one picture; docs/recipes.md tells why
FLAT = 2.0  # standard deviation of a thumbnail, in levels, below which it shows nothing
_CELLS = 2**24  # correlations that are computed at once
# Roboflow names what it makes of x.jpg: x_jpg.rf.<hash>.jpg
_MADE = re.compile(r"(.+)\.rf\.[0-9A-Za-z]+")


def thumbnail(pixels: bytes, shape: tuple[int, int, int]) -> bytes:
    """Return the thumbnail of an image's pixels (height, width, channels)."""
    height, width, channels = shape
    image = Image.frombytes("L" if channels == 1 else "RGB", (width, height), pixels)
    grey = image.convert("L").convert("F")  # in which the mean of many pixels is not rounded
    return np.asarray(grey.resize((SIDE, SIDE), Image.Resampling.BOX), np.float16).tobytes()


def groups(thumbnails: Mapping[str, bytes], names: Iterable[tuple[str, str, str]] = ()
) -> dict[str, str]:  # fmt: skip
    """Return a name of the group of each image that has copies; all are known by their digests.

    `names` are digests with paths and labels, from which Roboflow's copies are known too.
    """
    digests = sorted(thumbnails)
    index = {digest: number for number, digest in enumerate(digests)}
    group = np.arange(len(digests))
    stored = b"".join(thumbnails[digest] for digest in digests)
    for one, others in _alike(np.frombuffer(stored, np.float16).reshape(-1, SIDE, SIDE)):
        _join(group, np.append(others, one))
    made = defaultdict[tuple[str, str], list[int]](list)
    for digest, path, label in names:
        if match := _MADE.fullmatch(Path(path).stem):
            made[match[1], label].append(index[digest])
    for members in made.values():
        _join(group, np.array(members))
    sizes = np.bincount(group, minlength=len(digests))
    return {d: digests[g] for d, g in zip(digests, group.tolist(), strict=True) if sizes[g] > 1}


def _alike(thumbnails: NDArray[np.float16]) -> Iterable[tuple[int, NDArray[np.int64]]]:
    """Yield images, and those after them that are copies of them."""
    images = thumbnails.astype(np.float32)
    images -= images.mean(axis=(1, 2), keepdims=True)
    lengths = np.sqrt((images**2).sum(axis=(1, 2), keepdims=True))
    images /= np.where(lengths < FLAT * SIDE, np.inf, lengths)
    vectors = images.reshape(-1, SIDE * SIDE)
    step = max(1, _CELLS // max(1, len(images)))
    for begin in range(0, len(images), step):
        some = images[begin : begin + step]
        alike = np.zeros((len(some), len(images) - begin), np.bool_)
        for each in (some, some.transpose(0, 2, 1)):
            for turns in range(4):
                turned = np.rot90(each, turns, axes=(1, 2)).reshape(-1, SIDE * SIDE)
                alike |= turned @ vectors[begin:].T >= ALIKE
        alike = np.triu(alike, 1)
        for number in np.flatnonzero(alike.any(axis=1)):
            yield begin + int(number), begin + np.flatnonzero(alike[number])


def _join(group: NDArray[np.int64], members: NDArray[np.int64]) -> None:
    """Make one group of those that some images are in."""
    joined = np.unique(group[members])
    if len(joined) > 1:
        group[np.isin(group, joined)] = joined[0]
