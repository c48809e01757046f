"""PNG: samples of 16 bits, and the transparent colour at every depth."""

import re
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from sightstream.images.levels import Samples, sixteen_bits

END = b"IEND\xae\x42\x60\x82"


def load(image: Image.Image, data: bytes) -> Samples | None:
    """Decode the pixels; samples of 16 bits are returned as they are stored."""
    depth, key = data[24], image.info.get("transparency")
    if image.mode == "L" and depth < 8 and key is not None:  # Pillow scales the pixels alone.
        image.info["transparency"] = key * 255 // (2**depth - 1)
    image.load()
    return _samples(image, data) if depth == 16 else None


def _samples(image: Image.Image, data: bytes) -> Samples:
    bands = _bands(image, data)
    colours = 3 if data[25] & 2 else 1
    values = bands[..., :3] if colours == 3 else bands[..., 0]
    alpha = bands[..., -1] if data[25] & 4 else None
    if (key := image.info.get("transparency")) is not None:
        differs = bands != np.array(key, np.uint16)
        alpha = differs.any(axis=-1)
    # Bytes of the chunk: the significant bits of each band.
    said = re.search(rb"\0\0\0[\1-\4]sBIT([\1-\x10]{1,4})", data[: data.find(b"IDAT")])
    least = 2.0 ** max(said[1][:colours]) - 1 if said else None
    return Samples(values, alpha, white=least)


def _bands(image: Image.Image, data: bytes) -> NDArray[np.uint16]:
    if image.mode.startswith("I"):
        return np.asarray(image)[..., None]
    again = PngImageFile(BytesIO(data))
    if data[25] & 2:
        return sixteen_bits(image, again)
    # Grey with alpha has as many bytes as RGBA of 8 bits.
    again.tile = [tile._replace(args="RGBA") for tile in again.tile]
    return np.asarray(again).view(">u2")
