"""Bytes to a uint8 array: the only image decoder, for training, serving, `predict` and the page.

Images are untrusted: a fault is a value (`Rejected`), never an exception.
"""

import math
import re
from dataclasses import dataclass
from io import BytesIO
from numbers import Integral
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sightstream.images import formats, kinds, windows, without_warnings
from sightstream.images.formats import Format
from sightstream.images.levels import Levels, Samples, to_8_bit
from sightstream.images.limits import (
    DEFAULT_LIMITS,
    INT32,
    MAX_PIXELS,
    ErrorCode,
    Limits,
    RefusedError,
    Rejected,
    require_integer,
)

Resize = Literal["box", "bilinear", "bicubic", "lanczos"]
Aspect = Literal["stretch", "crop", "pad"]
Frame = Literal["first", "middle", "each"]

MAX_SIDE = 2**14

_METHODS = {each: Image.Resampling[each.upper()] for each in get_args(Resize)}
_ORIENTED = {"exif", "Raw profile type exif"}
_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def _require_one_of(field: str, value: object, choices: tuple[object, ...]) -> None:
    if value not in choices or isinstance(value, bool):
        raise ValueError(f"{field} must be one of {choices}, not {value!r}")


@dataclass(frozen=True)
class Preprocessing:
    """Input of a model, as part of its version: size in pixels, channels and resampling.

    Three channels are RGB, one is grey (ITU-R 601 luma). All filters average over every source
    pixel when they shrink. `stretch` distorts, `crop` cuts to the target's ratio around the
    centre, `pad` keeps everything and adds black bars. Of what remains, `crop` is the share of each
    side that is kept around the centre before the resize.

    Samples of more than 8 bits become 8 by `levels`: with `values` the largest one is white, if it
    is not below 255 (floats: 1) or what the file states, and 0 or the smallest negative one black;
    `full` takes the range of the type (floats: 0 to 1), for detectors of a fixed exposure.

    Grey DICOM is seen through a `window`: empty is the file's first, a number its n-th, a name of
    `windows.NAMED` (such as lung) or center/width a fixed one. Of its frames one is the picture,
    the n-th where `frame` is a number; with `each`, where a frame is a row, only the stream and
    backfills take files of several.
    """

    height: int
    width: int
    channels: Literal[1, 3] = 3
    resize: Resize = "bilinear"
    aspect: Aspect = "stretch"
    levels: Levels = "values"
    crop: float = 1.0
    window: str = ""
    frame: Frame | int = "first"

    def __post_init__(self) -> None:
        require_integer("height", self.height, MAX_SIDE)
        require_integer("width", self.width, MAX_SIDE)
        _require_one_of("channels", self.channels, (1, 3))
        _require_one_of("resize", self.resize, get_args(Resize))
        _require_one_of("aspect", self.aspect, get_args(Aspect))
        _require_one_of("levels", self.levels, get_args(Levels))
        if isinstance(self.crop, bool) or not 0 < self.crop <= 1:
            raise ValueError(f"crop must be above 0 and at most 1, not {self.crop!r}")
        windows.chosen(self.window)
        if type(self.frame) is int:
            require_integer("frame", self.frame, INT32)
        else:
            _require_one_of("frame", self.frame, get_args(Frame))

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width, channels."""
        return self.height, self.width, self.channels


@dataclass(frozen=True)
class Decoded:
    """A decoded image: pixels (height, width, channels) uint8, C-contiguous, read-only.

    The format follows from the content. Width and height are those of the upright picture before
    it was resized, in pixels.
    """

    pixels: NDArray[np.uint8]
    format: str
    width: int
    height: int


def decode(
    data: bytes, preprocessing: Preprocessing, limits: Limits = DEFAULT_LIMITS
) -> Decoded | Rejected:
    """Decode the content of a file, turn it upright, flatten and resize it. Never raises.

    The same bytes give the same pixels. Limits are checked before any pixel is decoded. The first
    frame of an animation counts, transparency is flattened onto white, ICC profiles are ignored.
    """
    if rejection := limits.rejection(len(data)):
        return rejection
    format = formats.find(data)
    if format is None:
        return Rejected("unsupported_format", kinds.sentence(data, formats.names()))
    try:
        return _decode(format, data, preprocessing, limits)
    except (Warning, Image.DecompressionBombError):
        return _decode_undisturbed(format, data, preprocessing, limits)


def _decode_undisturbed(
    format: Format, data: bytes, want: Preprocessing, limits: Limits
) -> Decoded | Rejected:
    """Decode without the warning filters and the Pillow bound of the process, which are its own."""
    with without_warnings():
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
        if refused := _too_many_pixels(format.header_size(data), format, limits):
            return refused
        image = format.open(BytesIO(data))
        size = _size(image, format)
        return _too_many_pixels(size, format, limits) or _pixels(image, format, data, want)
    except Warning:
        raise
    except RefusedError as refused:
        return _reject(refused.code, str(refused), format, size)
    except Image.DecompressionBombError as error:
        if limits.max_pixels > 2 * (Image.MAX_IMAGE_PIXELS or MAX_PIXELS):
            raise
        return _reject("too_many_pixels", f"{error}.", format, size)
    except Exception as error:  # Pillow's decoders raise nearly everything on hostile bytes.
        return _undecodable(error, format, data, size)


def _size(image: Image.Image, format: Format) -> tuple[int, int]:
    """Return the size that the header gives; Pillow takes any number for it, and even text."""
    if not all(isinstance(side, Integral) and side >= 0 for side in image.size):
        raise RefusedError("corrupt", f"The header of the {format.name} gives it no size.")
    return image.size


def _pixels(image: Image.Image, format: Format, data: bytes, want: Preprocessing) -> Decoded:
    loaded = format.load(image, data)  # Before EXIF is looked at: PNG may carry it behind.
    loaded = loaded(want) if callable(loaded) else loaded
    if 0 in image.size:
        raise RefusedError("corrupt", f"A side of the {format.name} has no pixels.")
    if isinstance(loaded, Samples) and loaded.values.shape[1::-1] != image.size:
        raise RefusedError(
            "corrupt", f"The {format.name} has not as many pixels as its header says."
        )
    orientation = 1 if format.is_upright else _orientation(image)
    width, height = image.size[::-1] if orientation >= 5 else image.size
    image = to_8_bit(loaded, want.levels) if isinstance(loaded, Samples) else loaded or image
    image = _resize(image, want, turned=orientation >= 5)
    if orientation > 1:
        image = image.transpose(_TRANSPOSE[orientation])
    mode = "RGB" if want.channels == 3 else "L"
    if image.mode != mode:  # `convert` would copy it all the same.
        image = image.convert(mode)
    pixels = np.frombuffer(_pad(image, want).tobytes(), np.uint8)
    return Decoded(pixels.reshape(want.height, want.width, -1), format.name, width, height)


def _resize(image: Image.Image, want: Preprocessing, *, turned: bool) -> Image.Image:
    """Shrink in the stored orientation, since turning is cheaper afterwards."""
    width, height = (want.height, want.width) if turned else (want.width, want.height)
    ratios = image.width / width, image.height / height
    if want.aspect == "pad":
        width, height = (max(1, round(side / max(ratios))) for side in image.size)
    # Has no effect but on JPEG, which it decodes at 1/2, 1/4 or 1/8, never below the target.
    least = (math.ceil(width / want.crop), math.ceil(height / want.crop))
    scaled = image.draft("L" if want.channels == 1 else None, least)
    right, bottom = scaled[1][2:] if scaled else image.size
    kept = [want.crop, want.crop]
    if want.aspect == "crop":
        kept = [want.crop * min(ratios) / ratio for ratio in ratios]
    left, top = right * (1 - kept[0]) / 2, bottom * (1 - kept[1]) / 2
    box = (left, top, right - left, bottom - top)
    return _opaque(image, want.levels).resize((width, height), _METHODS[want.resize], box)


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
        if block := image.info.get("exif"):
            exif = Image.Exif()  # Pillow's `getexif` asks XMP too, as no browser does.
            exif.load(block)
        else:
            image.info.pop("XML:com.adobe.xmp", None)
            exif = image.getexif()
        value = int(exif.get(0x0112, 1))
    except Warning:
        raise
    except Exception:  # A broken EXIF block is no reason to refuse an intact picture.
        return 1
    return value if value in _TRANSPOSE else 1


def _opaque(image: Image.Image, levels: Levels) -> Image.Image:
    """L or RGB, which are the modes that can be averaged, without transparency."""
    mode, transparent = image.mode, image.has_transparency_data
    if mode in ("L", "RGB") and not transparent:
        return image
    if mode.startswith(("I", "F")):  # of a format that another package adds
        return to_8_bit(Samples(np.asarray(image)), levels)
    if transparent:
        rgba = image.convert("RGBA")
        white = Image.new("RGB", image.size, "white")
        white.paste(rgba, mask=rgba)
        return white
    return image.convert("L" if mode == "1" else "RGB")


def _too_many_pixels(
    size: tuple[int, int] | None, format: Format, limits: Limits
) -> Rejected | None:
    if size is None or size[0] * size[1] <= limits.max_pixels:
        return None
    millions, most = size[0] * size[1] / 1e6, limits.max_pixels / 1e6
    sentence = f"{millions:,.1f} megapixels; the limit is {most:g}."
    return _reject("too_many_pixels", sentence, format, size)


def _undecodable(
    error: Exception, format: Format, data: bytes, size: tuple[int, int] | None
) -> Rejected:
    name = format.name
    if re.search("data too large|Too much memory", str(error)):
        sentence = f"The {name} holds compressed text that would expand beyond 1 MiB."
        return _reject("too_large", sentence, format, size)
    if "truncated" in str(error).lower() or len(data) < 12 or format.is_cut_short(data):
        sentence = f"The {name} ends too early, after {len(data):,} bytes."
        return _reject("truncated", sentence, format, size)
    invalid = size is None and isinstance(error, SyntaxError | IndexError | TypeError)
    reason = "its header is invalid" if invalid else str(error) or type(error).__name__
    return _reject("corrupt", f"The {name} cannot be decoded: {reason}.", format, size)


def _reject(code: ErrorCode, detail: str, format: Format, size: tuple[int, int] | None) -> Rejected:
    # A header may claim a size that the 32-bit columns of a row cannot hold.
    width, height = size if size and 0 <= min(size) <= max(size) <= INT32 else (None, None)
    return Rejected(code, detail, format.name, width, height)
