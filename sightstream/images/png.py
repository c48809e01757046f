"""PNG: samples of 16 bits, the transparent colour at every depth, what is beside the picture."""

import re
from collections.abc import Iterator
from io import BytesIO
from typing import Any
from zlib import crc32, decompressobj

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.ImageFile import ImageFile
from PIL.PngImagePlugin import PngImageFile

from sightstream.images.levels import Samples, sixteen_bits
from sightstream.images.limits import RefusedError

END = b"IEND\xae\x42\x60\x82"

_ANIMATION = {b"acTL", b"fcTL", b"fdAT"}
_SEEN = {b"tRNS", b"eXIf", b"sBIT"}
"""Chunks that are called ancillary and change what is seen."""
_LEAST = {b"cHRM": 32, b"gAMA": 4, b"iCCP": 3, b"pHYs": 9, b"sRGB": 1}
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_PASSES = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2),
           (0, 1, 1, 2)]  # fmt: skip
"""Of Adam7: first column and row, steps between columns and between rows."""
_PIECE = 2**18
_MARKS = [90, 195, 150, 31, 180, 45, 210, 105]


def open_picture(stream: BytesIO) -> Image.Image:
    """Open without the chunks of an animation and broken notes: the picture is there."""
    data = stream.getvalue()
    if data[12:16] == b"CgBI":
        sentence = "A PNG in Apple's own form (CgBI) is not read: save it as a usual PNG."
        raise RefusedError("unsupported_format", sentence)
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
    if isinstance(image, ImageFile) and not image.tile:
        raise ValueError("it has no pixels")
    if not _overwrites_last_row(image, data) and _misses_rows(image, data):
        raise RefusedError("truncated", "The PNG ends too early: rows of pixels are missing.")
    return _samples(image, data) if depth == 16 else None


def _overwrites_last_row(image: Any, data: bytes) -> bool:
    """Decode over a mark in the row that comes last; if it is still there, no row may have come."""
    last = (image.height & ~1) - 1 if data[28] else image.height - 1  # Adam7 ends with an odd row.
    ImageFile.load_prepare(image)
    pixels = image.im.pixel_access(False)
    bands = len(image.getbands())
    values = [each & 1 and 255 for each in _MARKS] if image.mode == "1" else _MARKS
    marks = {
        (x, last): (n,) * bands if bands > 1 else n for x, n in enumerate(values[: image.width])
    }
    for place, value in marks.items():
        pixels[place] = value
    pixels = image.load()
    return last >= 0 and any(pixels[place] != value for place, value in marks.items())


def _misses_rows(image: Image.Image, data: bytes) -> bool:
    """Inflate again, which is what shows a short stream that is whole for zlib."""
    bits, inflater = data[24] * _CHANNELS[data[25]], decompressobj()
    passes = _PASSES if data[28] else [(0, 0, 1, 1)]
    sizes = [
        (-(-(image.width - left) // across), -(-(image.height - top) // down))
        for left, top, across, down in passes
    ]
    missing = sum(height * (1 + (width * bits + 7) // 8) for width, height in sizes if width > 0)
    for name, start, end in _chunks(data):
        packed = data[start + 8 : end - 4] if name == b"IDAT" else b""
        while missing > 0 and (some := inflater.decompress(packed, min(missing, _PIECE))):
            missing -= len(some)
            packed = inflater.unconsumed_tail
    return missing > 0


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
