"""Formats: one entry each; packages add others by the entry-point group `sightstream.formats`.

An entry opens bytes with one plugin of Pillow, so that no format is tried that is not listed here.
"""

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from typing import Any

from PIL import Image
from PIL.GifImagePlugin import GifImageFile
from PIL.WebPImagePlugin import WebPImageFile

from sightstream import plugins
from sightstream.images import (
    avif,
    bmp,
    boxes,
    heif,
    jpeg,
    jpeg_segments,
    jxl,
    png,
    tiff,
)


@dataclass(frozen=True)
class Format:
    """Recognises and opens the files of a format; all but `is_cut_short` may raise anything."""

    name: str  # as the predictions table has it
    signature: bytes  # regular expression that matches at the beginning of a file
    open: Callable[[BytesIO], Image.Image]  # its size is known then, its pixels are not decoded
    is_cut_short: Callable[[bytes], bool]  # True where the end that the format announces is missing
    # Width and height that the header claims, or None; needed where `open` allocates pixels.
    header_size: Callable[[bytes], tuple[int, int] | None] = lambda data: None
    # Decodes pixels, and raises where they are not whole. A format that Pillow can decode at a
    # fraction of its size (`draft`) leaves it to that.
    # What it returns, if anything, is the picture in the place of the image, or a function that
    # makes it when it is told the model's `Preprocessing`.
    load: Callable[[Image.Image, bytes], Any] = lambda image, data: image.load() and None
    is_upright: bool = False  # True where `open` or `load` applies the EXIF orientation
    # Frames that may be events of their own, within a limit of pixels for each.
    frames: Callable[[bytes, int], int] = lambda data, most: 1


def find(data: bytes) -> Format | None:
    """Find the format whose signature the data begin with."""
    pattern, formats = _signatures()
    found = pattern.match(data)
    return formats[found.lastgroup] if found and found.lastgroup else None


def names() -> list[str]:
    """Return the names of the formats that are decoded."""
    return [each.name for each in _signatures()[1].values()]


@cache
def _signatures() -> tuple[re.Pattern[bytes], dict[str, Format]]:
    # Ours work where sightstream lies on the path without being installed, too.
    ours = {each.name.lower(): each for each in _OURS}
    added = plugins.installed("sightstream.formats")
    # Those of other packages come first: many formats begin as a TIFF does.
    order = sorted((ours | added).values(), key=lambda each: each in ours.values())
    formats = {f"f{number}": each for number, each in enumerate(order)}
    parts = [b"(?P<%s>%s)" % (key.encode(), each.signature) for key, each in formats.items()]
    return re.compile(b"|".join(parts), re.DOTALL), formats


def _little(data: bytes, start: int, count: int) -> int:
    return int.from_bytes(data[start : start + count], "little")


def _gif_size(data: bytes) -> tuple[int, int]:
    """Width and height of the screen, which Pillow extends to the end of the first frame."""
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    position = 13 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)  # behind the palette
    while data[position] == ord("!"):  # an extension: a type, and blocks up to an empty one
        position += 2
        while size := data[position]:
            position += 1 + size
        position += 1
    if data[position] != ord(","):
        return width, height
    left, top, wide, high = struct.unpack_from("<4H", data, position + 1)
    return max(width, left + wide), max(height, top + high)


def _webp_size(data: bytes) -> tuple[int, int] | None:
    """Width and height of the canvas: RFC 9649, sections 2.5 to 2.7."""
    match data[12:16]:
        case b"VP8X":
            return _little(data, 24, 3) + 1, _little(data, 27, 3) + 1
        case b"VP8L":
            bits = _little(data, 21, 4)
            return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        case b"VP8 ":
            return _little(data, 26, 2) & 0x3FFF, _little(data, 28, 2) & 0x3FFF
    return None


def _tiff_is_cut_short(data: bytes) -> bool:
    return len(data) < int.from_bytes(data[4:8], "little" if data[:1] == b"I" else "big")


def _of_dicom(function: str) -> Callable[..., Any]:
    """A function of `dicom`, whose modules are imported by the first file: they take 15 ms."""

    def call(*arguments: Any) -> Any:
        from sightstream.images import dicom

        return getattr(dicom, function)(*arguments)

    return call


JPEG = Format(
    "JPEG", rb"\xff\xd8", jpeg.open_picture, lambda data: jpeg_segments.END not in data,
    load=jpeg.load,
)  # fmt: skip
PNG = Format(
    "PNG", rb"\x89PNG\r\n\x1a\n", png.open_picture, lambda data: png.END not in data, load=png.load
)
WEBP = Format(
    "WEBP", rb"RIFF....WEBP", WebPImageFile, lambda data: len(data) < 8 + _little(data, 4, 4),
    header_size=_webp_size,
)  # fmt: skip
BMP = Format(
    "BMP", rb"BM", bmp.open_picture, lambda data: len(data) < _little(data, 2, 4), load=bmp.load
)
GIF = Format(
    "GIF", rb"GIF8[79]a", GifImageFile, lambda data: not data.rstrip(b"\0").endswith(b";"),
    header_size=_gif_size,
)  # fmt: skip
TIFF = Format(
    "TIFF", rb"II[*+]\0|MM\0[*+]|II\0\*|MM\*\0", tiff.open_picture, _tiff_is_cut_short,
    load=tiff.load,
)  # fmt: skip
# Its preamble may be the header of another format, so it comes first in `find`.
DICOM = Format(
    "DICOM",
    rb".{128}DICM"
    # Without a preamble: an element of group 2 or 8, explicit or implicit, then big endian.
    rb"|[\2\x08]\0[\0-\x3f]\0(?:[A-Z]{2}..|[\2-\xfe]\0\0\0)"
    rb"|\0[\2\x08]\0[\0-\x3f](?:[A-Z]{2}|\0\0\0[\2-\xfe])",
    _of_dicom("open_picture"), lambda data: False, load=_of_dicom("load"),
    frames=_of_dicom("frames"),
)  # fmt: skip
AVIF = Format(
    "AVIF", rb".{4}ftyp(?:avi[fs]|m[is]f1.{4}(?:.{4}){0,20}?avi[fs])", avif.open_picture,
    boxes.are_cut_short,
)  # fmt: skip
HEIC = Format(
    "HEIC", rb".{4}ftyp(?:he[iv][cxms]|m[is]f1)", heif.open_picture, boxes.are_cut_short,
    load=heif.load, is_upright=True,
)  # fmt: skip
JXL = Format(
    "JXL", rb"\xff\x0a|\0\0\0\x0cJXL \r\n\x87\n", jxl.open_picture, jxl.is_cut_short,
    header_size=jxl.header_size, load=jxl.load, is_upright=True,
)  # fmt: skip

_OURS = (DICOM, JPEG, PNG, WEBP, BMP, GIF, TIFF, AVIF, HEIC, JXL)
