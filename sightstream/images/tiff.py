"""TIFF: Pillow reads the plain kinds, grey of 16 and 32 bits, and RGB of 16.

All others go through tifffile, which needs imagecodecs for what is compressed. What a header
claims is bounded before memory is taken.
"""

import logging
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.ExifTags import Base
from PIL.TiffImagePlugin import TiffImageFile

from sightstream.images import extra
from sightstream.images.levels import Samples, sixteen_bits
from sightstream.images.limits import RefusedError
from sightstream.images.tiff_damage import refuse_missing, require_intact, require_same_fax
from sightstream.images.tiff_pages import at_picture
from sightstream.images.tiff_tags import Tags, unsupported

MAX_SAMPLE_BYTES = 2**30

_SELF_SIZED = {6, 7, 33003, 33004, 33005, 34712, 34887, 34933, 50001, 50002, 52546}
"""Compressions whose data say themselves how large they become: JPEG, LERC, WebP, ..."""


class PlainTiff(TiffImageFile):
    """A TIFF that Pillow reads."""

    tags: Tags


class ScientificTiff(Image.Image):
    """A TIFF that Pillow does not read; its size is known."""

    def __init__(self, stream: BytesIO, tags: Tags) -> None:
        super().__init__()
        self.stream, self.tags = stream, tags
        self._size = tags.width, tags.height
        _turn_later(self, tags)


def open_picture(stream: BytesIO) -> Image.Image:
    """Open the directory that holds the picture, without its pixels."""
    if stream.getvalue()[8:10] == b"CR":  # Its first directory is a finished JPEG.
        raise unsupported("camera raw (Canon CR2) file", "develop it to JPEG or TIFF")
    stream, tags = at_picture(stream)
    tags.refuse_raw()
    stream.seek(0)
    if tags.is_plain:
        try:
            image = PlainTiff(stream)
        except SyntaxError:  # a combination of bands that Pillow does not know
            return ScientificTiff(stream, tags)
        image.tags = tags
        return image
    return ScientificTiff(stream, tags)


def load(image: Image.Image, data: bytes) -> Image.Image | Samples | None:
    """Decode the pixels; samples of more than 8 bits are returned as they are stored."""
    read: Any = image
    refuse_missing(read.tags)
    found = _loaded(image)
    require_intact(data, read.tags)
    return found


def _loaded(image: Image.Image) -> Image.Image | Samples | None:
    if isinstance(image, ScientificTiff):
        return _scientific(image.stream, image.tags)
    plain: Any = image
    found = _plain(image, plain.tags, plain.fp)
    if not plain.tags.is_turned_by_pillow:
        _turn_later(image, plain.tags)
    return found


def _plain(image: Image.Image, tags: Tags, stream: BytesIO) -> Image.Image | Samples | None:
    image.info.pop("xmp", None)  # Pillow would turn the picture by it.
    data = stream.getvalue()
    if tags.bits == 16 and image.mode in ("RGB", "RGBA"):
        again = TiffImageFile(BytesIO(data))
        again.info.pop("xmp", None)
        return _bands(tags, sixteen_bits(image, again))
    image.load()
    require_same_fax(image, data, tags)
    if tags.has_small_colours and image.mode in ("P", "PA"):
        colours = np.array(tags.colours, np.uint16).reshape(3, -1).T >> 8
        image.putpalette(colours.astype(np.uint8).tobytes())
    if image.mode[0] in "IF" or (tags.nodata and image.mode in ("L", "RGB") and tags.photometric):
        return _samples(tags, np.asarray(image))
    return image.convert("RGB") if image.mode == "RGBA" and not tags.alpha else None


def _turn_later(image: Image.Image, tags: Tags) -> None:
    exif = Image.Exif()
    exif[Base.Orientation] = tags.orientation
    image.info["exif"] = exif.tobytes()


def _scientific(stream: BytesIO, tags: Tags) -> Samples:
    tags.refuse_kind()
    size = tags.width * tags.height * tags.bands * max(1, tags.bits // 8)
    if size > MAX_SAMPLE_BYTES:
        limit = f"the limit is {MAX_SAMPLE_BYTES / 1e9:.1f}"
        raise RefusedError("too_large", f"Its samples take {size / 1e9:,.1f} GB; {limit}.")
    bands = _with_tifffile(stream, tags)
    if tags.photometric == 3:
        return Samples(tags.palette(bands[..., 0]))
    if tags.has_other_colours:
        return _converted(tags, bands)
    return _bands(tags, bands)


def _converted(tags: Tags, bands: NDArray) -> Samples:
    """CMYK, CIELab and YCbCr as RGB by Pillow, which converts 8 bits: the upper ones."""
    upper = (bands >> (tags.bits - 8)).astype(np.uint8)
    if tags.photometric == 8:
        upper[..., 1:3] ^= 128  # signed; Pillow has 0 in the middle
    mode = {5: "CMYK", 6: "YCbCr", 8: "LAB"}[tags.photometric]
    bands_used = 4 if mode == "CMYK" else 3
    image = Image.merge(mode, [Image.fromarray(upper[..., n]) for n in range(bands_used)])
    return Samples(np.asarray(image.convert("RGB")), upper[..., tags.alpha] if tags.alpha else None)


def _bands(tags: Tags, bands: NDArray) -> Samples:
    """Choose of (height, width, bands): alpha is where ExtraSamples says so, and else nowhere."""
    alpha = bands[..., tags.alpha] if tags.alpha else None
    return _samples(tags, bands[..., :3] if tags.is_colour else bands[..., 0], alpha)


def _samples(tags: Tags, values: NDArray, alpha: NDArray | None = None) -> Samples:
    fills = values.dtype.kind == "f" or tags.bits == 8 * values.dtype.itemsize
    bits = 0 if fills else tags.bits
    zero_is_white, premultiplied = tags.photometric == 0, 1 in tags.extra
    return Samples(
        values, alpha, bits, tags.black, tags.white, zero_is_white, premultiplied, tags.nodata
    )


def _with_tifffile(stream: BytesIO, tags: Tags) -> NDArray:
    import tifffile

    logging.getLogger("tifffile").setLevel(logging.CRITICAL)
    if tags.compression != 1 or tags.bits % 8:
        extra.require(f"compressed {tags.kind}", "tiff")
    stream.seek(0)
    with tifffile.TiffFile(stream) as file:
        page: Any = file.pages.first
        codecs = tifffile.TIFF.DECOMPRESSORS
        if page.dtype is None or (page.compression != 1 and page.compression not in codecs):
            sentence = f"A {tags.kind}, compression {page.compression}: save it without one."
            raise RefusedError("unsupported_format", sentence)
        _require_all(page, tags, len(stream.getvalue()))
        if page.compression in _SELF_SIZED:
            array = _decode(page, codecs[page.compression], stream.getvalue())
        else:
            array = page.asarray(maxworkers=1)
        planes = array.reshape(page.shaped)[:, 0]
    bands: NDArray = planes.transpose(1, 2, 0, 3)
    return bands.reshape(*bands.shape[:2], -1)


def _require_all(page: Any, tags: Tags, size: int) -> None:
    """Missing strips and tiles of a band that is used would be read as zeros."""
    places = list(zip(page.dataoffsets, page.databytecounts, strict=False))
    if tags.is_planar:
        places = places[: len(places) * tags.bands_used // tags.bands]
    if any(offset + count > size for offset, count in places):
        raise RefusedError("truncated", f"The TIFF ends too early, after {size:,} bytes.")
    if not all(offset > 0 and count > 0 for offset, count in places):
        raise ValueError("strips or tiles are missing")


def _decode(page: Any, codec: Any, data: bytes) -> NDArray:
    """Decode each strip or tile into memory of the size that the directory gives it."""
    array = np.zeros(page.shaped, page.dtype)
    tables = {"tables": page.jpegtables} if page.compression == 7 and page.jpegtables else {}
    for index, (offset, count) in enumerate(
        zip(page.dataoffsets, page.databytecounts, strict=True)
    ):
        _, (plane, _, top, left, _), (_, height, width, bands) = page.decode(None, index)
        segment = np.empty((height, width, bands), page.dtype)
        if not count:
            continue
        codec(data[offset : offset + count], out=segment.squeeze(), **tables)
        target = array[plane, 0, top : top + height, left : left + width]
        target[:] = segment[: target.shape[0], : target.shape[1]]
    return array
