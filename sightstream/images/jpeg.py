"""JPEG: libjpeg's warnings count, so that no picture is taken whose pixels it made up.

libjpeg goes on behind damage with grey, smeared or shifted blocks, and only warns. Pillow drops the
warnings; simplejpeg raises them, and gives the same pixels.
"""

import re
from collections import defaultdict
from collections.abc import Iterator
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
_LOSSLESS = {0xC3, 0xCB}
_KINDS = {0xF7: "JPEG-LS"} | dict.fromkeys(
    (0xC5, 0xC6, 0xC7, 0xCD, 0xCE, 0xCF), "hierarchical JPEG"
)

Segment = tuple[int, bytes, bytes]
"""Its marker, its parameters, and the compressed data that follow them."""


class Jpeg(JpegImageFile):
    """A JPEG of 8 bits."""

    is_lossless = False

    def draft(self, mode: str | None, size: tuple[int, int] | None) -> Any:
        """Choose the fraction to decode at, as Pillow does; a lossless JPEG has none."""
        return None if self.is_lossless else super().draft(mode, size)

    def load(self) -> Any:
        """Decode the pixels; RefusedError where some would be made up."""
        if self.tile and not self.is_lossless and find_spec("simplejpeg"):
            stream: Any = self.fp
            data, pixels = _decode(stream.getvalue(), self.mode, self.size)
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
        segments = list(_segments(stream.getvalue()))
        _, frame, _ = _frame(segments)
        self._size = int.from_bytes(frame[3:5], "big"), int.from_bytes(frame[1:3], "big")
        self._mode = "F"
        self.bits = frame[0]
        for marker, body, _ in segments:
            if marker == _EXIF and body.startswith(b"Exif"):
                self.info["exif"] = body


def open_picture(stream: BytesIO) -> Image.Image:
    """Open by the frame's kind, without its pixels."""
    marker, frame, _ = _frame(_segments(stream.getvalue()))
    if marker in _KINDS:
        raise RefusedError(
            "unsupported_format", f"A {_KINDS[marker]} is not read: save it as JPEG."
        )
    if frame[:1] not in (b"\x08", b""):
        return DeepJpeg(stream)
    image = Jpeg(stream)
    image.is_lossless = marker in _LOSSLESS
    return image


def load(image: Image.Image, data: bytes) -> Samples | None:
    """Refuse what takes too long or has too few scans; decode more than 8 bits."""
    if isinstance(image, DeepJpeg):
        return _deep(image, data)
    scans = data.count(b"\xff\xda")
    if scans > MAX_SCANS and "progressive" in image.info:
        # Each of these scans is a pass over all pixels, however few bytes it has.
        raise ValueError(f"more than {MAX_SCANS} scans")
    if not _is_complete(list(_segments(data))):
        raise RefusedError("truncated", "The JPEG ends too early: some of its scans are missing.")
    return None


def _deep(image: DeepJpeg, data: bytes) -> Samples:
    if find_spec("imagecodecs") is None:
        sentence = f"A {image.bits}-bit JPEG needs: pip install 'sightstream[tiff]'."
        raise RefusedError("unsupported_format", sentence)
    from imagecodecs import jpeg_decode

    values = jpeg_decode(data)
    return Samples(values, bits=image.bits if image.bits < 16 else 0)


def _decode(data: bytes, mode: str, size: tuple[int, int]) -> tuple[bytes, NDArray | None]:
    """Decode at the fraction that gives a size; None where Pillow is to do so, from these bytes."""
    try:
        return data, _strictly(data, mode, size)
    except ValueError:
        alone = _without_oddities(data)
    try:
        return alone, _strictly(alone, mode, size)
    except ValueError as error:
        if not re.search("Corrupt JPEG data|premature end|inconsistent", str(error), re.I):
            return data, None  # a rare kind that only Pillow decodes
        alone = _without_filling(alone, error)
    try:
        return alone, _strictly(alone, mode, size)
    except ValueError as error:
        raise _refusal(error) from None


def _without_filling(data: bytes, error: ValueError) -> bytes:
    found = re.search(r"(\d+) extraneous bytes before marker 0xd9", str(error))
    count = int(found[1]) if found else 0
    filling = data[-2 - count : -2]
    if not 0 < count <= LEFT_OVER or len(set(filling)) > 1:
        raise _refusal(error) from None
    return data[: -2 - count] + END


def _strictly(data: bytes, mode: str, size: tuple[int, int]) -> NDArray | None:
    from simplejpeg import decode_jpeg

    width, height = size
    colours = {"RGB": "RGB", "L": "GRAY"}.get(mode, "CMYK")
    pixels: NDArray = decode_jpeg(data, colours, min_width=width, min_height=height)
    is_same = pixels.shape[:2] == (height, width) and max(size) >= _SMALL and colours != "CMYK"
    return (pixels if mode == "RGB" else pixels[..., 0]) if is_same else None


def _refusal(error: ValueError) -> RefusedError:
    if re.search("premature end", str(error), re.IGNORECASE):
        return RefusedError("truncated", "The JPEG ends too early: pixels are missing.")
    return RefusedError("corrupt", f"The JPEG cannot be decoded: {error}.")


def _segments(data: bytes) -> Iterator[Segment]:
    """The segments up to the end marker; what stands between them is left out."""
    position = 2
    while (found := _MARKER.search(data, position)) and (marker := found[1][0]) != _EOI:
        start = found.end()
        position = start + max(2, int.from_bytes(data[start : start + 2], "big"))
        body = data[start + 2 : position]
        if marker != _SOS:
            yield marker, body, b""
            continue
        after = _MARKER.search(data, position)
        end = after.start() if after else len(data)
        yield marker, body, data[position:end]
        position = end


def _frame(segments: Iterator[Segment] | list[Segment]) -> Segment:
    return next((each for each in segments if each[0] in _FRAMES), (0, b"", b""))


def _without_oddities(data: bytes) -> bytes:
    """The picture alone, with its end marker: no metadata, nothing between or behind segments."""
    kept = _FRAMES | _TABLES | {_SOS, _ADOBE}
    parts = [
        b"\xff" + bytes([marker]) + (len(body) + 2).to_bytes(2, "big") + body + compressed
        for marker, body, compressed in _segments(data)
        if marker in kept and len(body) < 2**16 - 2
    ]
    return b"\xff\xd8" + b"".join(parts) + END


def _is_complete(segments: list[Segment]) -> bool:
    """True where the scans bring every coefficient of every component to its last bit."""
    marker, frame, _ = _frame(segments)
    if marker not in (0xC0, 0xC1, 0xC2, 0xC9, 0xCA) or len(frame) < 6:
        return True
    known: dict[int, set[int]] = defaultdict(set)
    for _, body, _ in (each for each in segments if each[0] == _SOS and len(each[1]) > 5):
        first, last, bits = body[-3:] if marker in (0xC2, 0xCA) else (0, 63, 0)
        if bits & 0xF == 0:
            for component in body[1 : 1 + 2 * body[0] : 2]:
                known[component].update(range(first, last + 1))
    return all(len(known[component]) == 64 for component in frame[6 : 6 + 3 * frame[5] : 3])
