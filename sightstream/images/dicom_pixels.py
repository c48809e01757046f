"""The samples of a DICOM's frame as they are stored: read by pydicom, decoded by pylibjpeg."""

import struct
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightstream.images import jpeg, jpeg_segments
from sightstream.images.dicom_header import Header, damaged, truncated

_J2K, _JP2 = b"\xff\x4f\xff\x51", b"jP  "
_SIZE_OF_J2K = struct.Struct(">4I16xH")  # behind the marker, a length and the capabilities
_START, _END = b"\xff\xd8", jpeg_segments.END
_SEQUENTIAL, _SCAN = (0xC0, 0xC1), 0xDA
_RLE = "1.2.840.10008.1.2.5"
# pylibjpeg decodes all others. Baseline JPEG has the pixels that it has as a file of its own.
_PLUGINS = {_RLE: "pydicom", "1.2.840.10008.1.2.4.50": "pillow"}


def stored(header: Header, frame: int, size: int) -> tuple[NDArray, str]:
    """Decode the samples of a frame (height, width) or (height, width, 3), and name their colours.

    Those that are YCbCr become RGB. The file has `size` bytes.
    """
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


def require_all(header: Header, size: int) -> None:
    """Refuse a file that ends before its last frame begins; nothing is decoded."""
    from pydicom.encaps import parse_basic_offsets, parse_fragments

    content = header.tables[header.keyword].value
    if header.is_native:
        is_whole = len(content) >= _expected(header)
    else:
        stream = BytesIO(content)
        parse_basic_offsets(stream)
        is_whole = parse_fragments(stream)[0] >= header.frames
    if not is_whole:
        raise truncated(size)


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
        if _shape(content) != (header.columns, header.rows, header.samples):
            raise damaged("its pixels have another size than its header says, or other colours")
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


def _shape(content: bytes) -> tuple[int, int, int] | None:
    """Width, height and samples of a pixel that a JPEG of any kind says itself."""
    is_j2k = content[:4] == _J2K or content[4:8] == _JP2
    if is_j2k and (place := content.find(_J2K)) >= 0:
        right, bottom, left, top, samples = _SIZE_OF_J2K.unpack_from(content, place + 8)
        return right - left, bottom - top, samples
    for marker, start, end in jpeg_segments.segments(content):
        if marker in jpeg_segments.FRAMES and end - start > 5:
            height, width, samples = struct.unpack_from(">HHB", content, start + 1)
            return width, height, samples
    return None
