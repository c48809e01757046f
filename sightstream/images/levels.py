"""Samples of more than 8 bits, and the rule that brings them to 8: black, white, transparency."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Levels = Literal["values", "full"]

_BLOCK = 2**20
"""Samples that are scaled at a time: as floats they take eight times the memory of the result."""


@dataclass(frozen=True)
class Samples:
    """Samples as they are stored, upright or not, and what their file says of them.

    The values are (height, width) or (height, width, 3). Where `alpha` is boolean, False is
    transparent.
    """

    values: NDArray
    alpha: NDArray | None = None
    bits: int = 0  # significant bits; 0 where nothing says
    black: float | None = None  # SMinSampleValue
    white: float | None = None  # SMaxSampleValue
    zero_is_white: bool = False
    premultiplied: bool = False  # colours were multiplied by alpha
    nodata: float | None = None  # stands where nothing was measured

    @property
    def unmeasured(self) -> NDArray | None:
        """True for pixels that hold `nodata` in each band; None where there can be none."""
        if self.nodata is None:
            return None
        if self.values.dtype.kind == "f":
            same = self._is_about(self.nodata)
        else:
            bounds = np.iinfo(self.values.dtype)
            if not bounds.min <= self.nodata <= bounds.max or self.nodata % 1:
                return None
            same = self.values == int(self.nodata)
        return same.all(axis=-1) if same.ndim == 3 else same

    def _is_about(self, number: float) -> NDArray:
        """True for floats that are this one, but for how its text was rounded."""
        if np.isnan(number):
            return np.isnan(self.values)
        low, high = sorted((number * (1 - 1e-6), number * (1 + 1e-6)))
        with np.errstate(over="ignore"):
            found: NDArray = (self.values >= low) & (self.values <= high)
        return found


def to_8_bit(samples: Samples, levels: Levels) -> Image.Image:
    """Return the picture as L or RGB, with transparency flattened onto white."""
    unmeasured = samples.unmeasured
    if levels == "full":
        black, white = _full(samples)
    else:
        black, white = _black_and_white(samples, unmeasured)
    pixels = _scaled(samples.values, black, white)
    if samples.zero_is_white:
        pixels = 255 - pixels
    if unmeasured is not None:
        pixels[unmeasured] = 0
    if samples.alpha is None:
        return Image.fromarray(pixels)
    alpha = _scaled(samples.alpha, 0, _opaque(samples.alpha, white))
    if samples.premultiplied:
        over = 255 - alpha.reshape(alpha.shape + (1,) * (pixels.ndim - 2))
        return Image.fromarray(pixels + np.minimum(over, 255 - pixels))
    flat = Image.new("L" if pixels.ndim == 2 else "RGB", pixels.shape[1::-1], "white")
    flat.paste(Image.fromarray(pixels), mask=Image.fromarray(alpha))
    return flat


def _black_and_white(samples: Samples, unmeasured: NDArray | None) -> tuple[float, float]:
    """The largest value is white and 0 is black, within what the file and the type say.

    Each is a minimum or a maximum, so that a little more of a value never changes much.
    """
    values = samples.values
    if values.dtype == np.uint8 and not samples.bits:
        return 0, 255
    counts: Any = np.isfinite(values) if values.dtype.kind == "f" else True
    if unmeasured is not None:
        counts = counts & ~unmeasured.reshape(unmeasured.shape + (1,) * (values.ndim - 2))
    black = min(float(values.min(initial=0, where=counts)), samples.black or 0)
    white = 2**samples.bits - 1 if samples.bits else samples.white
    if white is None:
        white = black + (1 if values.dtype.kind == "f" else 255)
    return black, max(float(values.max(initial=0, where=counts)), white)


def _full(samples: Samples) -> tuple[float, float]:
    kind = samples.values.dtype
    if kind.kind == "f":
        return 0, 1
    if samples.bits:
        return 0, 2**samples.bits - 1
    return np.iinfo(kind).min, np.iinfo(kind).max


def _opaque(alpha: NDArray, white: float) -> float:
    """The value of alpha that hides the background: its type's own, or that of white."""
    largest = float(alpha.max(initial=0))
    if alpha.dtype.kind in "bf":
        return 1 if largest <= 1 else white
    return white if largest <= white else np.iinfo(alpha.dtype).max


def _scaled(values: NDArray, black: float, white: float) -> NDArray[np.uint8]:
    kind = values.dtype.newbyteorder("=")
    if kind.kind in "iu" and kind.itemsize <= 2:  # A table is quicker than to calculate each.
        unsigned = np.dtype(f"u{kind.itemsize}")
        all_values = np.arange(256**kind.itemsize).astype(unsigned).view(kind)
        table = _calculated(all_values, black, white)
        found: NDArray[np.uint8] = table[values.astype(kind, copy=False).view(unsigned)]
        return found
    pixels = np.empty(values.shape, np.uint8)
    step = max(1, _BLOCK // max(1, values[0].size))
    for row in range(0, len(values), step):
        pixels[row : row + step] = _calculated(values[row : row + step], black, white)
    return pixels


def _calculated(values: NDArray, black: float, white: float) -> NDArray[np.uint8]:
    span = white / 2 - black / 2 or 1  # halves, since their difference may be no finite number
    part = np.nan_to_num(values.astype(np.float64), nan=black, posinf=white, neginf=black)
    return ((part.clip(black, white) / 2 - black / 2) / span * 255 + 0.5).astype(np.uint8)


def sixteen_bits(image: Image.Image, again: Image.Image) -> NDArray[np.uint16]:
    """Decode RGB or RGBA of 16 bits, which Pillow has no mode for: upper bytes, then lower ones.

    Both are the same file, just opened, and closed in the end. Pillow takes the first byte of a
    sample for the upper one in its raw modes "B", the second one in "L".
    """
    tiles: Any = again.tile  # type: ignore[attr-defined]
    raw = tiles[0].args if isinstance(tiles[0].args, str) else tiles[0].args[0]
    other = raw[:-1] + ("L" if raw.endswith("B") else "B")
    again.tile = [  # type: ignore[attr-defined]
        tile._replace(args=other if isinstance(tile.args, str) else (other, *tile.args[1:]))
        for tile in tiles
    ]
    both = np.zeros((image.height, image.width, len(image.getbands())), np.uint16)
    for each, shift in ((image, 8), (again, 0)):
        each.load()
        step = max(1, _BLOCK // image.width)
        for top in range(0, image.height, step):
            rows = np.asarray(each.crop((0, top, image.width, min(top + step, image.height))))
            both[top : top + step] |= rows.astype(np.uint16) << shift
        each.close()  # Each of the three takes up to half a gigabyte.
    return both
