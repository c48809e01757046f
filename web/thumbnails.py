"""Small WebP files of images, made in a process beside the page."""

from dataclasses import replace
from io import BytesIO
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sightstream.images.decode import Aspect, Decoded, Frame, Preprocessing, decode
from sightstream.images.limits import Limits
from sightstream.images.store import read

# Orange to yellow on grey: bright where it matters, also for those who see no colours.
_LOW, _HIGH = np.array((213.0, 94.0, 0.0)), np.array((255.0, 230.0, 60.0))


class Picture(NamedTuple):
    """A WebP file, and the picture's width as a share of its longest side."""

    webp: bytes
    width: float


class Painter:
    """Makes pictures in its process, of images within limits."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits

    def fit(self, source: str | bytes, side: int, frame: Frame | int = "first") -> Picture | None:
        """A picture whose longest side is `side`; None if it cannot be decoded."""
        pixels = self._pixels(source, Preprocessing(side, side, aspect="pad", frame=frame))
        return None if pixels is None else _webp(pixels)

    def overlay(
        self, source: bytes, side: int, heat: NDArray[np.float32], seen: Preprocessing
    ) -> Picture | None:
        """What the model saw of the picture, in grey, with the pixels that decided in colour."""
        sides, aspect = (side, side), seen.aspect
        if aspect == "crop":
            height, width = heat.shape
            scale = side / max(height, width)
            sides = round(height * scale), round(width * scale)
        fitted: Aspect = "crop" if aspect == "crop" else "pad"
        want = replace(seen, height=sides[0], width=sides[1], channels=3, aspect=fitted)
        picture = self._pixels(source, want)
        if picture is None:
            return None
        if aspect == "pad":
            heat = _without_bars(heat, picture.shape[1], picture.shape[0])
        height, width, _ = picture.shape
        # If no patch changes the score, the map stays grey instead of showing noise.
        share = np.clip(heat / max(float(np.max(heat)), 0.05), 0, 1).astype(np.float32)
        large = Image.fromarray(share).resize((width, height), Image.Resampling.BILINEAR)
        weight = np.asarray(large)[..., None]
        grey = picture.mean(axis=2, keepdims=True) * 0.8
        colour = _LOW + (_HIGH - _LOW) * weight
        strength = 0.85 * weight**0.8
        return _webp((grey * (1 - strength) + colour * strength).astype(np.uint8))

    def _pixels(self, source: str | bytes, want: Preprocessing) -> NDArray[np.uint8] | None:
        data = source if isinstance(source, bytes) else read(source, self._limits)
        image = decode(data, want, self._limits) if isinstance(data, bytes) else data
        if not isinstance(image, Decoded):
            return None
        if want.aspect != "pad":
            return image.pixels
        return _without_bars(image.pixels, image.width, image.height)


def _without_bars(pixels: NDArray, width: int, height: int) -> NDArray:
    """Cuts off the bars that `pad` added to a picture of this width and height."""
    rows, columns = pixels.shape[:2]
    scale = min(columns / width, rows / height)
    across, down = max(1, round(width * scale)), max(1, round(height * scale))
    left, top = (columns - across) // 2, (rows - down) // 2
    return pixels[top : top + down, left : left + across]


def _webp(pixels: NDArray[np.uint8]) -> Picture:
    held = BytesIO()
    Image.fromarray(pixels).save(held, "WEBP", quality=85)
    height, width, _ = pixels.shape
    return Picture(held.getvalue(), width / max(width, height))
