"""DICOM: the pixels of one frame, through the file's own window or the model's.

Overlays are ignored.
"""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from typing import TYPE_CHECKING, Any

from PIL import Image

from sightstream.images import (
    dicom_grey,
    dicom_header,
    dicom_palette,
    dicom_pixels,
    extra,
)
from sightstream.images.dicom_header import Header, damaged, unquoted, unsupported
from sightstream.images.levels import Samples, to_8_bit
from sightstream.images.limits import RefusedError

if TYPE_CHECKING:
    from sightstream.images.decode import Preprocessing

MAX_SAMPLE_BYTES = 2**30

MAX_FRAMES = 1000
"""Frames of a file that become events."""

_GREY = ("MONOCHROME1", "MONOCHROME2")
_COLOURS = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
_NOT_READ = ("YBR_PARTIAL_422", "YBR_PARTIAL_420", "HSV", "ARGB", "CMYK", "XYB")


class Dicom(Image.Image):
    """A DICOM whose header is read; its size is known."""

    def __init__(self, header: Header, size: int) -> None:
        super().__init__()
        self.header, self.bytes = header, size
        self._size = header.columns, header.rows

    def shown(self, want: Preprocessing) -> Image.Image:
        """Decode the frame that a model wants, as it wants to see it."""
        with unquoted("its pixels do not fit its header"):
            return self._shown(want)

    def _place(self, frame: str | int) -> int:
        """The place of the frame that a model wants, from 0."""
        held = self.header.frames
        if isinstance(frame, int):
            if frame > held:
                sentence = f"The DICOM has {held} frames, and the model sees its {frame}."
                raise RefusedError("unsupported_format", sentence)
            return frame - 1
        if frame == "each" and held > 1:
            self.require_frames()
            sentence = (
                f"A DICOM of {held} frames is no single picture, and the model sees each: "
                "sightstream run and backfill give each frame a row."
            )
            raise RefusedError("unsupported_format", sentence)
        return held // 2 if frame == "middle" else 0

    def require_frames(self) -> None:
        """Refuse a file whose frames are too many to be events, or not all there."""
        header = self.header
        if header.frames > MAX_FRAMES:
            sentence = f"The DICOM has {header.frames:,} frames; the limit is {MAX_FRAMES:,}."
            raise RefusedError("too_large", sentence)
        if header.is_deflated:  # It would be inflated for each frame.
            raise unsupported("of several deflated frames", "save it without deflation")
        dicom_pixels.require_all(header, self.bytes)

    def _shown(self, want: Preprocessing) -> Image.Image:
        header = self.header
        frame = self._place(want.frame)
        stored, photometric = dicom_pixels.stored(header, frame, self.bytes)
        if photometric in _GREY:
            return Image.fromarray(dicom_grey.picture(header, stored, frame, want.window))
        if photometric == "PALETTE COLOR":
            return Image.fromarray(dicom_palette.picture(header, stored))
        deep = stored.dtype.itemsize > 1
        return to_8_bit(Samples(stored, bits=header.bits_stored if deep else 0), want.levels)


def open_picture(stream: BytesIO) -> Image.Image:
    """Read the header, and refuse what holds no picture or one of a kind that is not read."""
    extra.require("DICOM", "dicom")
    data = stream.getvalue()
    with unquoted("its header is damaged"):
        header = dicom_header.read(data)
        _refuse_kind(header)
    return Dicom(header, len(data))


def frames(data: bytes, most: int) -> int:
    """Number of frames of at most so many pixels; 1 or RefusedError where they are no events."""
    opened: Any = open_picture(BytesIO(data))
    if opened.header.frames == 1 or opened.width * opened.height > most:
        return 1
    with unquoted("its pixels do not fit its header"):
        opened.require_frames()
    return int(opened.header.frames)


def load(image: Image.Image, data: bytes) -> Callable[[Preprocessing], Image.Image]:
    """What decodes the pixels, once it is told how they are to be seen."""
    opened: Any = image
    shown: Callable[[Preprocessing], Image.Image] = opened.shown
    return shown


def _refuse_kind(header: Header) -> None:
    from pydicom.pixels import get_decoder
    from pydicom.uid import UID, UID_dictionary

    uid = UID(header.syntax)
    name = UID_dictionary.get(header.syntax, ("of an unknown transfer syntax",))[0]
    if "MPEG" in name or "HEVC" in name:
        raise unsupported("video", "export its frames")
    try:
        decoder = get_decoder(uid)
    except NotImplementedError:
        raise unsupported(f"({name})", "save it without compression, or as JPEG 2000") from None
    if not decoder.is_available:
        raise unsupported(f"({name})", "pylibjpeg has no decoder for it")
    if header.photometric in _NOT_READ:
        raise unsupported(f"in {header.photometric}", "save it as RGB")
    samples = 3 if header.photometric in _COLOURS else 1
    if header.photometric not in (*_GREY, *_COLOURS, "PALETTE COLOR"):
        raise damaged("its header names no colours that are known")
    if header.samples != samples:
        raise damaged(f"its header has {header.samples} samples a pixel")
    _refuse_numbers(header)


def _refuse_numbers(header: Header) -> None:
    if header.rows < 1 or header.columns < 1:
        raise damaged("its header claims a picture without pixels")
    if header.bits_allocated not in (1, 8, 16, 32, 64) or not (
        1 <= header.bits_stored <= header.bits_allocated
    ):
        bits = f"{header.bits_stored} of {header.bits_allocated} bits"
        raise unsupported(f"with {bits}", "save it with 8, 12 or 16")
    size = header.rows * header.columns * header.samples * max(1, header.bits_allocated // 8)
    if size > MAX_SAMPLE_BYTES:
        limit = f"the limit is {MAX_SAMPLE_BYTES / 1e9:.1f}"
        raise RefusedError("too_large", f"Its samples take {size / 1e9:,.1f} GB; {limit}.")
