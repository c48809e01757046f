"""Bytes to a uint8 array: the only image decoder, for training, serving, `predict` and the page.

Images are untrusted: whatever is wrong with one is a value (`Rejected`), never an exception, and
limits are checked before pixels are decoded. The first frame of an animation counts, EXIF
orientation is applied, transparency is flattened onto white, ICC profiles are ignored.
"""

import re
import warnings
from dataclasses import dataclass
from io import BytesIO
from threading import Lock
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.TiffImagePlugin import BITSPERSAMPLE

from sightstream.images import formats
from sightstream.images.formats import Format

ErrorCode = Literal[
    "empty", "too_large", "too_many_pixels", "unsupported_format",
    "truncated", "corrupt", "not_found", "unreadable", "uri_refused",
]  # fmt: skip
Resize = Literal["box", "bilinear", "bicubic", "lanczos"]
Aspect = Literal["stretch", "crop", "pad"]

MAX_PIXELS = 2**28
MAX_SIDE = 2**14
MAX_SHOWN_SIDE = 2**31 - 1
"""The longest side that a row of 32-bit columns can hold."""

_FILTERS = Lock()
"""Held while the process's filters for warnings are others; threads may decode meanwhile."""

_ORIENTED = {"exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif"}
_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def _require_integer(field: str, value: object, most: int) -> None:
    if type(value) is not int or not 1 <= value <= most:
        raise ValueError(f"{field} must be an integer from 1 to {most:,}, not {value!r}")


def _require_one_of(field: str, value: object, choices: tuple[object, ...]) -> None:
    if value not in choices or isinstance(value, bool):
        raise ValueError(f"{field} must be one of {choices}, not {value!r}")


@dataclass(frozen=True)
class Preprocessing:
    """Input of a model: size, channels and resampling; part of a model version.

    Attributes:
        height: Rows of the result, in pixels.
        width: Columns of the result, in pixels.
        channels: 3 for RGB, 1 for grey (ITU-R 601 luma).
        resize: Filter; all of them average over every source pixel when they shrink.
        aspect: `stretch` distorts, `crop` cuts to the target's ratio around the centre,
            `pad` keeps everything and adds black bars.
    """

    height: int
    width: int
    channels: Literal[1, 3] = 3
    resize: Resize = "bilinear"
    aspect: Aspect = "stretch"

    def __post_init__(self) -> None:
        _require_integer("height", self.height, MAX_SIDE)
        _require_integer("width", self.width, MAX_SIDE)
        _require_one_of("channels", self.channels, (1, 3))
        _require_one_of("resize", self.resize, get_args(Resize))
        _require_one_of("aspect", self.aspect, get_args(Aspect))

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width, channels."""
        return self.height, self.width, self.channels


@dataclass(frozen=True)
class Limits:
    """Bounds that are checked before an image is read (`max_bytes`) or decoded (`max_pixels`)."""

    max_bytes: int = 20 * 2**20
    max_pixels: int = 50_000_000

    def __post_init__(self) -> None:
        _require_integer("max_bytes", self.max_bytes, 2**31 - 1)
        _require_integer("max_pixels", self.max_pixels, MAX_PIXELS)

    def rejection(self, size: int) -> "Rejected | None":
        """The rejection of a file of `size` bytes; None where it is within bounds."""
        if size == 0:
            return Rejected("empty", "The file has no bytes.")
        if size > self.max_bytes:
            return Rejected("too_large", f"{size:,} bytes; the limit is {self.max_bytes:,}.")
        return None


@dataclass(frozen=True)
class Decoded:
    """A decoded image.

    Attributes:
        pixels: (height, width, channels) uint8, C-contiguous, read-only.
        format: JPEG, PNG, WEBP, BMP, GIF, TIFF or a plugin's, by content, whatever the name is.
        width: Of the picture as a person sees it, before resizing, in pixels.
        height: Likewise.
    """

    pixels: NDArray[np.uint8]
    format: str
    width: int
    height: int


@dataclass(frozen=True)
class Rejected:
    """Reason why an image was not decoded, and the format and size in its header, if known."""

    code: ErrorCode
    detail: str
    format: str | None = None
    width: int | None = None
    height: int | None = None


DEFAULT_LIMITS = Limits()


def decode(
    data: bytes, preprocessing: Preprocessing, limits: Limits = DEFAULT_LIMITS
) -> Decoded | Rejected:
    """Decode, turn upright, flatten, resize; the same bytes give the same pixels. Never raises.

    Args:
        data: A whole file of one of `formats.names()`.
        preprocessing: Size and channels of the result.
        limits: Checked against `data` and its header, before any pixel is decoded.

    Returns:
        The pixels as (height, width, channels) uint8, or why there are none. 16-bit grey loses its
        low byte; 32-bit integers and floats are scaled by the smallest of 1, 255, 32,767 and 65,535
        that holds their maximum, or from minimum to maximum where none does or some are negative.
    """
    if rejection := limits.rejection(len(data)):
        return rejection
    format = formats.find(data)
    if format is None:
        *most, last = formats.names()
        sentence = f"Not a {', '.join(most)} or {last} file: it begins with {data[:8]!r}."
        return Rejected("unsupported_format", sentence)
    try:
        return _decode(format, data, preprocessing, limits)
    except (Warning, Image.DecompressionBombError):
        return _decode_undisturbed(format, data, preprocessing, limits)


def _decode_undisturbed(
    format: Format, data: bytes, want: Preprocessing, limits: Limits
) -> Decoded | Rejected:
    """Decode what this process's filters for warnings, or its bound on Pillow, have refused.

    Both belong to whoever runs the process, and are changed for the time of this call alone.
    """
    with _FILTERS, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        bound = Image.MAX_IMAGE_PIXELS
        if bound is not None:  # Pillow refuses images of more than twice its bound.
            Image.MAX_IMAGE_PIXELS = max(bound, (limits.max_pixels + 1) // 2)
        try:
            return _decode(format, data, want, limits)
        finally:
            Image.MAX_IMAGE_PIXELS = bound


def _decode(format: Format, data: bytes, want: Preprocessing, limits: Limits) -> Decoded | Rejected:
    size = None
    try:
        claimed = format.header_size(data)
        if claimed and claimed[0] * claimed[1] > limits.max_pixels:
            return _too_many_pixels(limits, format, claimed)
        image = format.open(BytesIO(data))
        size = image.size
        if size[0] * size[1] > limits.max_pixels:
            return _too_many_pixels(limits, format, size)
        return _pixels(image, format, data, want)
    except Warning:
        raise
    except Image.DecompressionBombError:
        if limits.max_pixels > 2 * (Image.MAX_IMAGE_PIXELS or MAX_PIXELS):
            raise
        return _too_many_pixels(limits, format, size)
    except Exception as error:  # Pillow's decoders raise nearly everything on hostile bytes.
        return _undecodable(error, format, data, size)


def _pixels(image: Image.Image, format: Format, data: bytes, want: Preprocessing) -> Decoded:
    format.load(image, data)  # Before EXIF is looked at: PNG may carry it behind the pixels.
    orientation = 1 if format.is_upright else _orientation(image)
    width, height = image.size[::-1] if orientation >= 5 else image.size
    image = _resize(image, want, turned=orientation >= 5)
    if orientation > 1:
        image = image.transpose(_TRANSPOSE[orientation])
    pixels = np.asarray(_pad(image.convert("RGB" if want.channels == 3 else "L"), want))
    return Decoded(pixels.reshape(want.height, want.width, -1), format.name, width, height)


def _resize(image: Image.Image, want: Preprocessing, *, turned: bool) -> Image.Image:
    """Shrink in the stored orientation, since turning is cheaper afterwards."""
    width, height = (want.height, want.width) if turned else (want.width, want.height)
    ratios = image.width / width, image.height / height
    if want.aspect == "pad":
        width, height = (max(1, round(side / max(ratios))) for side in image.size)
    # Has no effect but on JPEG, which it decodes at 1/2, 1/4 or 1/8, never below the target.
    scaled = image.draft("L" if want.channels == 1 else None, (width, height))
    right, bottom = scaled[1][2:] if scaled else image.size
    left = top = 0.0
    if want.aspect == "crop":
        left = right * (1 - min(ratios) / ratios[0]) / 2
        top = bottom * (1 - min(ratios) / ratios[1]) / 2
    box = (left, top, right - left, bottom - top)
    method = Image.Resampling[want.resize.upper()]
    return _to_8_bit(image).resize((width, height), method, box)


def _pad(image: Image.Image, want: Preprocessing) -> Image.Image:
    if image.size == (want.width, want.height):
        return image
    canvas = Image.new(image.mode, (want.width, want.height))
    canvas.paste(image, ((want.width - image.width) // 2, (want.height - image.height) // 2))
    return canvas


def _orientation(image: Image.Image) -> int:
    if _ORIENTED.isdisjoint(image.info):
        return 1
    try:
        value = int(image.getexif().get(0x0112, 1))
    except Warning:
        raise
    except Exception:  # A broken EXIF block is no reason to refuse an intact picture.
        return 1
    return value if value in _TRANSPOSE else 1


def _to_8_bit(image: Image.Image) -> Image.Image:
    """L or RGB, which are the modes that can be averaged, without transparency."""
    if image.mode.startswith(("I", "F")):
        return _scale_to_8_bit(image)
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        white = Image.new("RGB", image.size, "white")
        white.paste(rgba, mask=rgba)
        return white
    if image.mode in ("L", "RGB"):
        return image
    return image.convert("L" if image.mode == "1" else "RGB")


def _scale_to_8_bit(image: Image.Image) -> Image.Image:
    values = np.asarray(image)
    if values.dtype.itemsize == 2:
        # TIFF may hold 12 bits, which Pillow hands over as they are.
        tags = getattr(image, "tag_v2", {})
        grey = (values >> (tags.get(BITSPERSAMPLE, (16,))[0] - 8)).astype(np.uint8)
        grey[values == image.info.get("transparency", -1)] = 255
        return Image.fromarray(grey)
    known = values[np.isfinite(values)]
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)
    scales = [scale for scale in (1, 255, 32_767, 65_535) if low >= 0 and high <= scale]
    if scales:
        low, high = 0.0, float(scales[0])
    scale = 255 / ((high - low) or 1)
    finite = np.nan_to_num(values.astype(np.float32), nan=low, posinf=high, neginf=low)
    return Image.fromarray((finite * scale - low * scale + 0.5).astype(np.uint8))


def _too_many_pixels(limits: Limits, format: Format, size: tuple[int, int] | None) -> Rejected:
    limit = f"the limit is {limits.max_pixels / 1e6:g}."
    if size is None:
        return Rejected("too_many_pixels", f"Too many megapixels; {limit}", format.name)
    sentence = f"{size[0] * size[1] / 1e6:,.1f} megapixels; {limit}"
    return Rejected("too_many_pixels", sentence, format.name, *_shown(size))


def _shown(size: tuple[int, int] | None) -> tuple[int, int] | tuple[None, None]:
    """The size that a header claims, where a row can hold it."""
    return size if size and max(size) <= MAX_SHOWN_SIDE else (None, None)


def _undecodable(
    error: Exception, format: Format, data: bytes, size: tuple[int, int] | None
) -> Rejected:
    name, dimensions = format.name, _shown(size)
    if re.search("data too large|Too much memory", str(error)):
        sentence = f"The {name} holds compressed text that would expand beyond 1 MiB."
        return Rejected("too_large", sentence, name, *dimensions)
    if "truncated" in str(error).lower() or len(data) < 12 or format.is_cut_short(data):
        sentence = f"The {name} ends too early, after {len(data):,} bytes."
        return Rejected("truncated", sentence, name, *dimensions)
    invalid = size is None and isinstance(error, SyntaxError | IndexError | TypeError)
    reason = "its header is invalid" if invalid else str(error) or type(error).__name__
    return Rejected("corrupt", f"The {name} cannot be decoded: {reason}.", name, *dimensions)
