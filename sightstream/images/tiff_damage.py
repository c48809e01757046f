"""TIFF: damage that libtiff only warns of, or does not look for, so that no pixels are made up."""

import logging
import zlib
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image

from sightstream.images import jpeg
from sightstream.images.tiff_tags import Tags, unsupported

_FAX = (3, 4)
_JPEG = 7
_DEFLATE = (8, 32946)
_PIECE = 2**20
_AT_ONCE = 2**26


def require_intact(data: bytes, tags: Tags) -> None:
    """Raise where a strip or tile is damaged: of JPEG in it as of one that is alone."""
    for offset, count in zip(tags.offsets, tags.counts, strict=False):
        segment = data[offset : offset + count]
        if tags.compression in _DEFLATE:
            _inflate(segment, tags.segment_size)
        elif tags.compression == _JPEG and tags.bits == 8 and segment:
            jpeg.require_intact(tags.jpeg_tables[:-2] + segment[2 if tags.jpeg_tables else 0 :])


def refuse_missing(tags: Tags) -> None:
    """Refuse what has fewer strips or tiles than its size needs, or some that were never written.

    Pillow and tifffile would have black pixels there. GDAL leaves out empty ones.
    """
    places = list(zip(tags.offsets, tags.counts, strict=False))
    if places and len(tags.offsets) < tags.segment_count:
        raise ValueError(
            f"it has {len(tags.offsets):,} of its {tags.segment_count:,} strips or tiles"
        )
    used = places[: len(places) * tags.bands_used // tags.bands] if tags.is_planar else places
    if absent := used.count((0, 0)):
        kind = f"TIFF that lacks {absent:,} of {len(used):,} strips or tiles (sparse)"
        raise unsupported(kind, "write it whole (GDAL: SPARSE_OK=NO)")


def _inflate(packed: bytes, most: int) -> None:
    """Look at the checksum, which libtiff does not reach where there are too many bytes."""
    if _inflates_at_once(packed, most):
        return
    inflater = zlib.decompressobj()
    while some := inflater.decompress(packed, _PIECE):
        most -= len(some)
        packed = inflater.unconsumed_tail
        if most < 0:
            raise ValueError("a strip or tile holds more than its pixels")


def _inflates_at_once(packed: bytes, most: int) -> bool:
    """True where libdeflate is installed, which takes half the time, and finds nothing wrong."""
    if not 0 < most <= _AT_ONCE:
        return False
    try:
        from imagecodecs import deflate_decode

        deflate_decode(packed, out=most)
    except Exception:  # It takes no stream without a checksum.
        return False
    return True


def require_same_fax(image: Image.Image, data: bytes, tags: Tags) -> None:
    """Raise where another decoder counts other pixels: each goes on behind damage in its own way.

    It has to be installed (imagecodecs), and to know the kind.
    """
    if tags.compression not in _FAX or (other := _black_and_white(data)) is None:
        return
    count = np.count_nonzero(np.asarray(image))
    if other.size == image.width * image.height and count not in (
        np.count_nonzero(other),
        other.size - np.count_nonzero(other),
    ):
        raise ValueError("its fax data is damaged")


def _black_and_white(data: bytes) -> Any:
    import tifffile

    logging.getLogger("tifffile").setLevel(logging.CRITICAL)
    try:
        with tifffile.TiffFile(BytesIO(data)) as file:
            return file.pages.first.asarray(maxworkers=1)
    except Exception:  # It knows fewer kinds than libtiff.
        return None
