"""PNG: samples of 16 bits, the transparent colour at every depth, what is beside the picture."""

import re
from collections.abc import Iterator
from io import BytesIO
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from sightstream.images.levels import Samples, sixteen_bits

END = b"IEND\xae\x42\x60\x82"

_ANIMATION = {b"acTL", b"fcTL", b"fdAT"}
_SEEN = {b"tRNS", b"eXIf", b"sBIT"}
"""Chunks that are called ancillary and change what is seen."""
_LEAST = {b"cHRM": 32, b"gAMA": 4, b"iCCP": 3, b"pHYs": 9, b"sRGB": 1}


def open_picture(stream: BytesIO) -> Image.Image:
    """Open without the chunks of an animation and broken notes: the picture is there."""
    data = stream.getvalue()
    dropped = [
        (start, end) for name, start, end in _chunks(data) if not _is_needed(data, name, start, end)
    ]
    if not dropped:
        return PngImageFile(stream)
    starts, ends = [0, *(end for _, end in dropped)], [*(start for start, _ in dropped), len(data)]
    kept = (data[start:end] for start, end in zip(starts, ends, strict=True))
    return PngImageFile(BytesIO(b"".join(kept)))


def _is_needed(data: bytes, name: bytes, start: int, end: int) -> bool:
    if name in _ANIMATION or start + 8 >= len(data):  # Of the last one there may be no more.
        return False
    if name[:1].isupper() or name in _SEEN or end > len(data):
        return True
    is_intact = crc32(data[start + 4 : end - 4]).to_bytes(4, "big") == data[end - 4 : end]
    return is_intact and end - start - 12 >= _LEAST.get(name, 0)


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """The name of each chunk, and where it begins and ends."""
    start = 8
    while start + 8 <= len(data):
        end = start + 12 + int.from_bytes(data[start : start + 4], "big")
        yield data[start + 4 : start + 8], start, end
        start = end


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
    again: Any = open_picture(BytesIO(data))
    if data[25] & 2:
        return sixteen_bits(image, again)
    # Grey with alpha has as many bytes as RGBA of 8 bits.
    again.tile = [tile._replace(args="RGBA") for tile in again.tile]
    return np.asarray(again).view(">u2")
