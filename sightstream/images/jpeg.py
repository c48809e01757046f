"""JPEG: libjpeg's warnings count, so that no picture is taken whose pixels it made up.

libjpeg goes on behind damage with grey, smeared or shifted blocks, and only warns. Pillow drops the
warnings; simplejpeg raises them, and gives the same pixels.
"""

import re
import struct
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from io import BytesIO
from typing import Any

from numpy.typing import NDArray
from PIL import Image, ImageFile
from PIL.JpegImagePlugin import JpegImageFile

from sightstream.images.levels import Samples
from sightstream.images.limits import RefusedError

MAX_SCANS = 100
LEFT_OVER = 64
"""So many equal bytes may follow the last pixel of a file: some writers fill up their blocks."""

END = b"\xff\xd9"

_SMALL = 16  # the side of a picture below which two fractions may have one size
_MARKER = re.compile(rb"\xff+([^\x00\x01\xd0-\xd8\xff])", re.DOTALL)
_FRAMES = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}
_TABLES = {0xC4, 0xCC, 0xDB, 0xDC, 0xDD}
_SOS, _EOI, _ADOBE, _EXIF = 0xDA, 0xD9, 0xEE, 0xE1
_LOSSLESS, _PROGRESSIVE = {0xC3, 0xCB}, {0xC2, 0xCA}
_KINDS = {0xF7: "JPEG-LS"} | dict.fromkeys(
    (0xC5, 0xC6, 0xC7, 0xCD, 0xCE, 0xCF), "hierarchical JPEG"
)

Segment = tuple[int, int, int]
"""Its marker, and where its parameters begin and end."""


class Jpeg(JpegImageFile):
    """A JPEG of 8 bits."""

    is_lossless = False
    has_one_scan = True  # which holds everything

    def draft(self, mode: str | None, size: tuple[int, int] | None) -> Any:
        """Choose the fraction to decode at, as Pillow does; a lossless JPEG has none."""
        return None if self.is_lossless else super().draft(mode, size)

    def load(self) -> Any:
        """Decode the pixels; RefusedError where some would be made up."""
        if self.tile and not self.is_lossless and (decode := _strict_decoder()):
            stream: Any = self.fp
            data, pixels = _decode(decode, stream.getvalue(), self.mode, self.size)
            self.fp = BytesIO(data)
            if pixels is not None:
                self._im = Image.fromarray(pixels).im
                self.tile = []
        return super().load()


class DeepJpeg(ImageFile.ImageFile):
    """A JPEG of more than 8 bits, which Pillow does not read; its size is known."""

    format = "JPEG"

    def _open(self) -> None:
        stream: Any = self.fp
        data = stream.getvalue()
        for marker, start, end in _segments(data):
            body = data[start:end]
            if marker == _EXIF and body.startswith(b"Exif"):
                self.info["exif"] = body
            if marker in _FRAMES:
                self.bits, height, width = struct.unpack_from(">BHH", body)
                self._size, self._mode = (width, height), "F"
                return


def open_picture(stream: BytesIO) -> Image.Image:
    """Open by the frame's kind, without its pixels."""
    data = stream.getvalue()
    frame, layers, bits = 0, 0, 8
    for marker, start, end in _segments(data):
        if marker in _FRAMES and end - start > 5:
            frame, layers, bits = marker, data[start + 5], data[start]
        if marker == _SOS:
            break
    else:
        start = len(data) - 1
    if frame in _KINDS:
        sentence = f"A {_KINDS[frame]} is not read: save it as a baseline JPEG."
        raise RefusedError("unsupported_format", sentence)
    if bits != 8:
        return DeepJpeg(stream)
    image = Jpeg(stream)
    image.is_lossless = frame in _LOSSLESS
    image.has_one_scan = frame not in _PROGRESSIVE and data[start : start + 1] == bytes([layers])
    return image


def load(image: Image.Image, data: bytes) -> Samples | None:
    """Refuse what takes too long or has too few scans; decode more than 8 bits."""
    if isinstance(image, DeepJpeg):
        return _deep(image, data)
    if "progressive" in image.info and data.count(b"\xff\xda") > MAX_SCANS:
        # Each of these scans is a pass over all pixels, however few bytes it has.
        raise ValueError(f"more than {MAX_SCANS} scans")
    if isinstance(image, Jpeg) and not image.has_one_scan and not _is_complete(data):
        raise RefusedError("truncated", "The JPEG ends too early: some of its scans are missing.")
    return None


@cache
def _strict_decoder() -> Any:
    try:
        from simplejpeg import decode_jpeg
    except ImportError:
        return None
    return decode_jpeg


def _deep(image: DeepJpeg, data: bytes) -> Samples:
    if find_spec("imagecodecs") is None:
        sentence = f"A {image.bits}-bit JPEG needs: pip install 'sightstream[tiff]'."
        raise RefusedError("unsupported_format", sentence)
    from imagecodecs import jpeg_decode

    values = jpeg_decode(data)
    return Samples(values, bits=image.bits if image.bits < 16 else 0)


def _decode(
    strict: Any, data: bytes, mode: str, size: tuple[int, int]
) -> tuple[bytes, NDArray | None]:
    """Decode at the fraction that gives a size; None where Pillow is to do so, from these bytes."""
    try:
        return data, _strictly(strict, data, mode, size)
    except ValueError:
        alone = _without_oddities(data)
    try:
        return alone, _strictly(strict, alone, mode, size)
    except ValueError as error:
        if not re.search("Corrupt JPEG data|premature end|inconsistent", str(error), re.I):
            return data, None  # a rare kind that only Pillow decodes
        alone = _without_filling(alone, error)
    try:
        return alone, _strictly(strict, alone, mode, size)
    except ValueError as error:
        raise _refusal(error) from None


def _without_filling(data: bytes, error: ValueError) -> bytes:
    found = re.search(r"(\d+) extraneous bytes before marker 0xd9", str(error))
    count = int(found[1]) if found else 0
    filling = data[-2 - count : -2]
    if not 0 < count <= LEFT_OVER or len(set(filling)) > 1:
        raise _refusal(error) from None
    return data[: -2 - count] + END


def _strictly(strict: Any, data: bytes, mode: str, size: tuple[int, int]) -> NDArray | None:
    width, height = size
    colours = {"RGB": "RGB", "L": "GRAY"}.get(mode, "CMYK")
    pixels: NDArray = strict(data, colours, min_width=width, min_height=height)
    is_same = pixels.shape[:2] == (height, width) and max(size) >= _SMALL and colours != "CMYK"
    return (pixels if mode == "RGB" else pixels[..., 0]) if is_same else None


def _refusal(error: ValueError) -> RefusedError:
    if re.search("premature end", str(error), re.IGNORECASE):
        return RefusedError("truncated", "The JPEG ends too early: pixels are missing.")
    return RefusedError("corrupt", f"The JPEG cannot be decoded: {error}.")


def _segments(data: bytes) -> Iterator[Segment]:
    """The segments up to the end marker; what stands between them is passed over."""
    position = 2
    while (found := _MARKER.search(data, position)) and (marker := found[1][0]) != _EOI:
        start = found.end()
        position = start + max(2, int.from_bytes(data[start : start + 2], "big"))
        yield marker, start + 2, position


def _without_oddities(data: bytes) -> bytes:
    """The picture alone, with its end marker: no metadata, nothing between or behind segments."""
    parts = [b"\xff\xd8"]
    for marker, start, end in _segments(data):
        if marker in _FRAMES | _TABLES | {_SOS, _ADOBE}:
            parts.append(b"\xff" + bytes([marker]) + data[start - 2 : end])
        if marker == _SOS:
            following = _MARKER.search(data, end)
            parts.append(data[end : following.start() if following else len(data)])
    return b"".join(parts) + END


def _is_complete(data: bytes) -> bool:
    """True where the scans bring every coefficient of every component to its last bit."""
    known: dict[int, set[int]] = defaultdict(set)
    components, frame = b"", 0
    for marker, start, end in _segments(data):
        body = data[start:end]
        if marker in _FRAMES and len(body) > 5:
            frame, components = marker, body[6 : 6 + 3 * body[5] : 3]
        if marker == _SOS and len(body) > 5:
            first, last, bits = body[-3:] if frame in _PROGRESSIVE else (0, 63, 0)
            for component in body[1 : 1 + 2 * body[0] : 2] if bits & 0xF == 0 else b"":
                known[component].update(range(first, last + 1))
    return frame in _LOSSLESS or all(len(known[component]) == 64 for component in components)
