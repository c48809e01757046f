"""JPEG: libjpeg's warnings count, so that no picture is taken whose pixels it made up.

libjpeg goes on behind damage with grey, smeared or shifted blocks, and only warns. Pillow drops the
warnings; simplejpeg raises them, and gives the same pixels.
"""

import re
from functools import cache
from io import BytesIO
from typing import Any

from numpy.typing import NDArray
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from sightstream.images import extra
from sightstream.images.jpeg_segments import (
    END,
    EXIF,
    Frame,
    count_scans,
    is_complete,
    read_frame,
    without_oddities,
)
from sightstream.images.levels import Samples
from sightstream.images.limits import RefusedError

MAX_SCANS = 100
LEFT_OVER = 64
"""So many equal bytes may follow the last pixel of a file: some writers fill up their blocks."""

_SMALL = 16  # the side of a picture below which two fractions may have one size


class PlainJpeg(Image.Image):
    """A JPEG that libjpeg alone opens, as nearly all are: Pillow's look at the header takes long.

    Of 8 bits, grey or of three colours.
    """

    format = "JPEG"

    def __init__(self, data: bytes, frame: Frame) -> None:
        super().__init__()
        self._size, self._mode = frame.size, "L" if len(frame.components) == 1 else "RGB"
        self.info = {"exif": frame.exif} if frame.exif else {}
        self.frame, self._data, self._least = frame, data, frame.size

    def draft(self, mode: str | None, size: tuple[int, int] | None) -> Any:
        """Choose the fraction to decode at, as Pillow does, and grey where that is wanted."""
        self._mode, self._least = mode or self._mode, size or self._size
        (width, height), least = self._size, self._least
        times = min(width // least[0], height // least[1])
        part = 8 if times >= 8 else 4 if times >= 4 else 2 if times >= 2 else 1
        self._size = -(-width // part), -(-height // part)
        return self._mode, (0, 0, width / part, height / part)

    def load(self) -> Any:
        """Decode the pixels; RefusedError where some would be made up."""
        if self._im is None:
            data, pixels = _decode(_strict_decoder(), self._data, self.mode, self.size)
            if pixels is None:
                self._im = self._by_pillow(data)
            else:  # half as long as `fromarray`
                self._im = Image.frombytes(self.mode, self.size, pixels).im
        return super().load()

    def _by_pillow(self, data: bytes) -> Any:
        try:
            image = JpegImageFile(BytesIO(data))
        except SyntaxError:
            raise OSError("its header is invalid") from None
        image.draft(self.mode, self._least)
        image.load()
        return image.im


class Jpeg(JpegImageFile):
    """A JPEG of 8 bits of any other kind."""

    frame = Frame()

    def draft(self, mode: str | None, size: tuple[int, int] | None) -> Any:
        """Choose the fraction to decode at, as Pillow does; a lossless JPEG has none."""
        return None if self.frame.is_lossless else super().draft(mode, size)

    def load(self) -> Any:
        """Decode the pixels; RefusedError where some would be made up."""
        if self.tile and not self.frame.is_lossless and (decode := _strict_decoder()):
            stream: Any = self.fp
            data, pixels = _decode(decode, stream.getvalue(), self.mode, self.size)
            self.fp = BytesIO(data)
            if pixels is not None:
                self._im = Image.frombytes(self.mode, self.size, pixels).im
                self.tile = []
        return super().load()


class DeepJpeg(Image.Image):
    """A JPEG of more than 8 bits, which Pillow does not read; its size is known."""

    format = "JPEG"

    def __init__(self, frame: Frame) -> None:
        super().__init__()
        self._size, self._mode = frame.size, "F"
        self.info = {"exif": frame.exif} if frame.exif else {}
        self.bits = frame.bits


def open_picture(stream: BytesIO) -> Image.Image:
    """Open by the frame's kind, without its pixels."""
    data = stream.getvalue()
    frame = read_frame(data)
    if frame.is_plain and max(frame.size) >= 8 * _SMALL and _strict_decoder():
        return PlainJpeg(data, frame)
    if frame.not_read:
        sentence = f"A {frame.not_read} is not read: save it as a baseline JPEG."
        raise RefusedError("unsupported_format", sentence)
    if frame.bits != 8:
        return DeepJpeg(frame)
    if frame.is_lossless:  # JFIF calls colours YCbCr, but these are RGB, or loss would come in.
        stream = BytesIO(without_oddities(stream.getvalue(), kept=EXIF))
    try:
        image = Jpeg(stream)
    except SyntaxError:  # Pillow knows fewer markers and fewer bytes between segments.
        if not frame.marker:
            raise
        image = Jpeg(BytesIO(without_oddities(stream.getvalue(), kept=EXIF)))
    image.frame = frame
    return image


def load(image: Image.Image, data: bytes) -> Samples | None:
    """Refuse what takes too long or has too few scans; decode more than 8 bits."""
    if isinstance(image, DeepJpeg):
        return _deep(image, data)
    frame: Frame = image.frame  # type: ignore[attr-defined]
    many = frame.is_progressive and data.count(b"\xff\xda") > MAX_SCANS
    if many and count_scans(data) > MAX_SCANS:
        # Each of these scans is a pass over all pixels, however few bytes it has.
        raise ValueError(f"more than {MAX_SCANS} scans")
    if not frame.has_one_scan and not is_complete(data):
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
    extra.require(f"{image.bits}-bit JPEG", "tiff")
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
        alone = without_oddities(data)
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


def require_intact(data: bytes) -> None:
    """Raise RefusedError where some pixels would be made up; the smallest fraction shows it."""
    if decode := _strict_decoder():
        modes = {1: "L", 3: "RGB"}
        _decode(decode, data, modes.get(len(read_frame(data).components), "CMYK"), (1, 1))


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
