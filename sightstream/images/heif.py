"""HEIC and other HEIF that holds HEVC, by pillow-heif: the primary picture, as its file turns it.

Thumbnails, depth and gain maps are never the picture. EXIF turns nothing: ISO/IEC 23008-12 has the
container's own rotation count, which libheif applies.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO

import numpy as np
from PIL import Image

from sightstream.images import extra
from sightstream.images.boxes import are_cut_short
from sightstream.images.levels import Samples
from sightstream.images.limits import RefusedError

_NO_DECODER = "Unsupported|not been built in|not identified|primary item"
"""What libheif and Pillow say of codecs that this libheif lacks, and of films without a still."""


def open_picture(stream: BytesIO) -> Image.Image:
    """Open the primary picture; libheif reads the header alone."""
    extra.require("HEIC", "heif")
    from pillow_heif import HeifImageFile

    with _kinds_by_name(stream.getvalue()):
        image: Image.Image = HeifImageFile(stream)
    return image


def load(image: Image.Image, data: bytes) -> Samples | None:
    """Decode the pixels; grey of more than 8 bits is returned as libheif scales it, to 16."""
    size = image.size
    with _kinds_by_name(data):
        image.load()
    if image.size != size:
        raise ValueError(f"its pixels are {image.size[0]}x{image.size[1]}, not as its header says")
    return Samples(np.asarray(image), bits=16) if image.mode.startswith("I") else None


@contextmanager
def _kinds_by_name(data: bytes) -> Iterator[None]:
    """Tell what libheif has no decoder for from what is damaged."""
    try:
        yield
    except Exception as error:
        if are_cut_short(data) or not re.search(_NO_DECODER, str(error)):
            raise
        reason = " ".join(str(error).split())
        sentence = f"A HEIF of this kind cannot be read ({reason}): convert it to JPEG or PNG."
        raise RefusedError("unsupported_format", sentence) from None
