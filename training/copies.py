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
_CELLS = 2**21  # estimates that are computed at once
_LOW = 6  # sum of the two frequencies from which on estimates do not tell them apart
_MARGIN = 1e-4  # more than what rounding takes from an estimate
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
    found = _Groups(len(digests))
    stored = b"".join(thumbnails[digest] for digest in digests)
    _join_alike(np.frombuffer(stored, np.float16).reshape(-1, SIDE, SIDE), found)
    made = defaultdict[tuple[str, str], list[int]](list)
    for digest, path, label in names:
        if match := _MADE.fullmatch(Path(path).stem):
            made[match[1], label].append(index[digest])
    for members in made.values():
        found.join(members)
    copied = [(digests[min(each)], each) for each in found.members.values() if len(each) > 1]
    return {digests[number]: first for first, each in copied for number in each}


class _Groups:
    """Images, each in a group of its own until groups are joined."""

    def __init__(self, count: int) -> None:
        self.of = np.arange(count)
        self.members = {number: [number] for number in range(count)}

    def join(self, images: Iterable[int]) -> None:
        """Make one group of those that images are in."""
        groups = sorted({int(self.of[n]) for n in images}, key=lambda g: len(self.members[g]))
        for group in groups[:-1]:  # into the largest, so that few change their group
            moved = self.members.pop(group)
            self.of[moved] = groups[-1]
            self.members[groups[-1]] += moved


def _join_alike(thumbnails: NDArray[np.float16], found: _Groups) -> None:
    """Join the groups of images that are copies of each other."""
    images = thumbnails.astype(np.float32)
    images -= images.mean(axis=(1, 2), keepdims=True)
    lengths = np.sqrt((images**2).sum(axis=(1, 2), keepdims=True))
    images /= np.where(lengths < FLAT * SIDE, np.inf, lengths).astype(np.float32)
    vectors, estimates = images.reshape(-1, SIDE * SIDE), _estimates(images)
    step = max(1, _CELLS // max(1, len(images)))
    for begin in range(0, len(images), step):
        near = estimates[begin : begin + step] @ estimates[begin:].T >= ALIKE - _MARGIN
        for number in np.flatnonzero(np.triu(near, 1).any(axis=1)):
            one = begin + int(number)
            is_apart = found.of[one + 1 :] != found.of[one]
            others = one + 1 + np.flatnonzero(near[number, number + 1 :] & is_apart)
            if len(others):
                alike = (_turned(images[one]) @ vectors[others].T >= ALIKE).any(axis=0)
                found.join([one, *others[alike].tolist()])


def _turned(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a thumbnail in all ways to mirror and to turn it, a row each."""
    ways = [np.rot90(each, turns) for each in (image, image.T) for turns in range(4)]
    return np.stack(ways).reshape(8, SIDE * SIDE)


def _estimates(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a vector of each thumbnail; of two, their product is no less than the correlation.

    That holds in whatever way one is turned, so that most pairs need no closer look. To mirror an
    image changes the signs of its cosine transform, to turn it also what is row and column; signs
    and order are left out. The vector has the low frequencies, and the length of the rest.
    """
    place = np.arange(SIDE)
    cosine = np.cos(np.pi * (2 * place + 1) * place[:, None] / (2 * SIDE)) * np.sqrt(2 / SIDE)
    cosine[0] /= np.sqrt(2)
    cosine = cosine.astype(np.float32)
    found = np.abs(cosine @ images @ cosine.T)
    across, down = found, found.transpose(0, 2, 1)
    found = np.where(
        np.tri(SIDE, dtype=np.bool_), np.minimum(across, down), np.maximum(across, down)
    )
    low = np.add.outer(place, place) < _LOW
    rest = np.sqrt((found[:, ~low] ** 2).sum(axis=1, keepdims=True))
    return np.hstack([found[:, low], rest])
