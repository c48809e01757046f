"""DICOM: the pixels of one frame, through the file's own window or the model's.

pydicom reads, pylibjpeg decodes what is compressed. Overlays are ignored.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sightstream.images import (
    dicom_grey,
    dicom_header,
    dicom_palette,
    extra,
    jpeg,
    jpeg_segments,
)
from sightstream.images.dicom_header import Header, damaged, truncated, unquoted, unsupported
from sightstream.images.levels import Samples, to_8_bit
from sightstream.images.limits import RefusedError

if TYPE_CHECKING:
    from sightstream.images.decode import Preprocessing

SIGNATURE = (
    rb".{128}DICM"
    # Without a preamble: an element of group 2 or 8, explicit or implicit, then big endian.
    rb"|[\2\x08]\0[\0-\x3f]\0(?:[A-Z]{2}..|[\2-\xfe]\0\0\0)"
    rb"|\0[\2\x08]\0[\0-\x3f](?:[A-Z]{2}|\0\0\0[\2-\xfe])"
)

MAX_SAMPLE_BYTES = 2**30

_GREY = ("MONOCHROME1", "MONOCHROME2")
_COLOURS = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
_NOT_READ = ("YBR_PARTIAL_422", "YBR_PARTIAL_420", "HSV", "ARGB", "CMYK", "XYB")
_J2K, _JP2 = b"\xff\x4f\xff\x51", b"jP  "
_SIZE_OF_J2K = struct.Struct(">4I")  # behind the marker, a length and the capabilities
_START, _END = b"\xff\xd8", jpeg_segments.END
_SEQUENTIAL, _SCAN = (0xC0, 0xC1), 0xDA
_RLE = "1.2.840.10008.1.2.5"
# pylibjpeg decodes all others. Baseline JPEG has the pixels that it has as a file of its own.
_PLUGINS = {_RLE: "pydicom", "1.2.840.10008.1.2.4.50": "pillow"}


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

    def _shown(self, want: Preprocessing) -> Image.Image:
        header = self.header
        frame = header.frames // 2 if want.frame == "middle" else 0
        stored, photometric = _stored(header, frame, self.bytes)
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


def _stored(header: Header, frame: int, size: int) -> tuple[NDArray, str]:
    """The samples of a frame, and their colours: those that are YCbCr become RGB."""
    from pydicom.pixels import get_decoder
    from pydicom.uid import UID

    decoder = get_decoder(UID(header.syntax))
    pixels = header.tables[header.keyword]
    options: dict[str, Any] = {
        "rows": header.rows, "columns": header.columns, "number_of_frames": header.frames,
        "samples_per_pixel": header.samples, "photometric_interpretation": header.photometric,
        "bits_allocated": header.bits_allocated, "bits_stored": header.bits_stored,
        "pixel_representation": int(header.is_signed), "pixel_keyword": header.keyword,
        "planar_configuration": int(header.is_planar), "pixel_vr": pixels.VR,
        "allow_excess_frames": False,
    }  # fmt: skip
    if header.is_native:
        content = pixels.value
        if len(content) < _expected(header):
            raise truncated(size)
        options["correct_unused_bits"] = False
    else:
        content, frame = _frame_alone(header, pixels.value, frame, size), 0
        options["number_of_frames"] = 1
    plugin = "" if header.is_native else _PLUGINS.get(header.syntax, "pylibjpeg")
    array, seen = decoder.as_array(content, index=frame, decoding_plugin=plugin, **options)
    if header.is_native and header.keyword == "PixelData" and header.bits_allocated > 1:
        array = _used_bits(header, array)
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    return np.ascontiguousarray(array), str(seen["photometric_interpretation"])


def _expected(header: Header) -> int:
    samples = header.samples * header.rows * header.columns * header.frames
    if header.photometric == "YBR_FULL_422":
        samples = samples * 2 // 3
    return (samples * header.bits_allocated + 7) // 8


def _used_bits(header: Header, array: NDArray) -> NDArray:
    """The bits up to the high bit; others may hold an overlay."""
    high, allocated = header.high_bit, header.bits_allocated
    if not header.bits_stored <= high + 1 <= allocated:
        high = header.bits_stored - 1
    if header.bits_stored == allocated:
        return array
    native = array.astype(array.dtype.newbyteorder("="), copy=False)
    used: NDArray = (native << (allocated - 1 - high)) >> (allocated - header.bits_stored)
    return used


def _frame_alone(header: Header, encapsulated: bytes, frame: int, size: int) -> bytes:
    """One frame as if it were all, once its own header agrees with the file's."""
    from pydicom.encaps import encapsulate, get_frame

    offsets = [header.tables.get(f"ExtendedOffsetTable{part}") for part in ("", "Lengths")]
    try:
        content = get_frame(
            encapsulated, frame, number_of_frames=header.frames,
            extended_offsets=tuple(offsets) if all(offsets) else None,
        )  # fmt: skip
    except Exception:
        raise truncated(size) from None
    if header.syntax != _RLE:
        if _size(content) != (header.columns, header.rows):
            raise damaged("its pixels have another size than its header says")
        if _END not in content[-64:]:
            raise truncated(size)
        _require_intact(content)
    alone: bytes = encapsulate([_mended(content)], has_bot=False)
    return alone


def _require_intact(content: bytes) -> None:
    """Refuse a JPEG behind whose damage pixels are made up; libjpeg of JPEG XT says nothing of it.

    No decoder sees damage in the other kinds unless it is no valid code.
    """
    frame = jpeg_segments.read_frame(content)
    if content[:2] == _START and frame.bits == 8 and not (frame.is_lossless or frame.not_read):
        jpeg.require_intact(content[: content.rindex(_END) + 2])


def _mended(content: bytes) -> bytes:
    """The JPEG with the only spectrum that one without scans of parts may have, as others read it.

    libjpeg refuses another, which old writers left there.
    """
    mended, is_sequential = bytearray(content), False
    for marker, _, end in jpeg_segments.segments(content) if content[:2] == _START else ():
        if marker in jpeg_segments.FRAMES:
            is_sequential = marker in _SEQUENTIAL
        if marker == _SCAN and is_sequential and end <= len(content):
            mended[end - 3 : end] = b"\0\x3f\0"
    return bytes(mended)


def _size(content: bytes) -> tuple[int, int] | None:
    """Width and height that a JPEG of any kind says itself."""
    is_j2k = content[:4] == _J2K or content[4:8] == _JP2
    if is_j2k and (place := content.find(_J2K)) >= 0:
        right, bottom, left, top = _SIZE_OF_J2K.unpack_from(content, place + 8)
        return right - left, bottom - top
    for marker, start, end in jpeg_segments.segments(content):
        if marker in jpeg_segments.FRAMES and end - start > 5:
            height, width = struct.unpack_from(">HH", content, start + 1)
            return width, height
    return None
