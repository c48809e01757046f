"""JPEG XL, by imagecodecs: the first frame, turned as its codestream says; EXIF turns nothing."""

from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sightstream.images import boxes, extra, jxl_header
from sightstream.images.jxl_header import Header
from sightstream.images.levels import Samples
from sightstream.images.limits import RefusedError


class Jxl(Image.Image):
    """A picture whose header alone was read."""

    def __init__(self, header: Header) -> None:
        super().__init__()
        self.header = header
        self._size = header.width, header.height


def open_picture(stream: BytesIO) -> Image.Image:
    """Read the header."""
    extra.require("JPEG XL", "jxl")
    header = jxl_header.read(stream.getvalue())
    if header.has_black:
        sentence = "A CMYK JPEG XL cannot be read: convert it to RGB."
        raise RefusedError("unsupported_format", sentence)
    return Jxl(header)


def header_size(data: bytes) -> tuple[int, int]:
    """Width and height, upright."""
    header = jxl_header.read(data)
    return header.width, header.height


def is_cut_short(data: bytes) -> bool:
    """True for a container that misses bytes; a bare codestream does not announce its end."""
    return data[:1] == b"\0" and boxes.are_cut_short(data)


def load(image: Image.Image, data: bytes) -> Samples:
    """Decode the first frame; alpha is the last band of two or four."""
    from imagecodecs import JpegxlError, jpegxl_decode

    assert isinstance(image, Jxl)  # noqa: S101
    try:
        bands = jpegxl_decode(data, index=0, numthreads=1)
    except JpegxlError as error:
        if "NEED_MORE_INPUT" not in str(error):
            raise ValueError("its codestream is damaged") from None
        sentence = f"The JXL ends too early, after {len(data):,} bytes."
        raise RefusedError("truncated", sentence) from None
    header = image.header
    if bands.ndim == 3 and bands.shape[1:] == (header.height, header.width):
        bands = bands[0]  # grey, before planes of what is no colour
    if bands.shape[:2] != (header.height, header.width):
        raise ValueError("its pixels are not of the size that its header says")
    return _samples(header, bands[..., None] if bands.ndim == 2 else bands)


def _samples(header: Header, bands: NDArray) -> Samples:
    alpha = bands[..., -1] if bands.shape[-1] in (2, 4) else None
    values = bands[..., :3] if bands.shape[-1] > 2 else bands[..., 0]
    if header.is_linear:
        values = _as_srgb(values, header.bits)
    # A depth of 16 says nothing of white: cameras and scanners store 10 to 16 bits in it.
    bits = header.bits if values.dtype.kind == "u" and header.bits % 8 else 0
    return Samples(values, alpha, bits=bits, premultiplied=header.premultiplied)


def _as_srgb(values: NDArray, bits: int) -> NDArray:
    """Linear light as sRGB has it, IEC 61966-2-1; else the picture would be far too dark."""
    if values.dtype.kind == "f":
        return _curved(values)
    levels = np.arange(2**bits) / (2**bits - 1)
    table = (_curved(levels) * (2**bits - 1) + 0.5).astype(values.dtype)
    found: NDArray = table[values]
    return found


def _curved(light: NDArray) -> NDArray:
    bright = 1.055 * np.maximum(light, 0.0031308) ** (1 / 2.4) - 0.055
    return np.where(light <= 0.0031308, 12.92 * light, bright).astype(light.dtype)
