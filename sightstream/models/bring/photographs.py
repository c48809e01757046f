"""Real images on which an imported model is compared with its original."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sightstream.errors import InputError
from sightstream.images.decode import Decoded, Preprocessing, decode

SIDES = (96, 160, 256, 400)
SOURCE = "crops of scikit-learn's sample photographs"


def crops(count: int) -> list[bytes]:
    """Return BMP files of photographs: crops of several sizes, always the same ones."""
    spec = find_spec("sklearn")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("No module named 'sklearn'", name="sklearn")
    folder = Path(spec.origin).parent / "datasets" / "images"
    pictures = [Image.open(path).convert("RGB") for path in sorted(folder.glob("*.jpg"))]
    return [_crop(pictures[n % len(pictures)], n) for n in range(count)]


def _crop(picture: Image.Image, number: int) -> bytes:
    random = np.random.default_rng(number)
    side = SIDES[number // 2 % len(SIDES)]
    left, top = (int(random.integers(0, length - side + 1)) for length in picture.size)
    picture.crop((left, top, left + side, top + side)).save(file := BytesIO(), "BMP")
    return file.getvalue()


def pixels(images: Sequence[bytes], want: Preprocessing) -> NDArray[np.uint8]:
    """Return the pixels (n, height, width, channels) of those images that can be decoded."""
    found = list(_decoded(images, want))
    if not found:
        raise InputError("none of the images can be decoded; give others with --data")
    return np.stack(found)


def _decoded(images: Sequence[bytes], want: Preprocessing) -> Iterator[NDArray[np.uint8]]:
    for image in images:
        if isinstance(found := decode(image, want), Decoded):
            yield found.pixels
