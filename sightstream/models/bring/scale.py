"""The range of pixels that a network expects: `--scale`."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sightstream.errors import InputError


@dataclass(frozen=True)
class Scale:
    """A pixel of 0 to 255 becomes `(pixel / unit - mean) / std`, by channel, in RGB or BGR."""

    unit: float = 1.0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    bgr: bool = False

    def __post_init__(self) -> None:
        values = np.array([self.unit, *self.mean, *self.std], float)
        if not np.isfinite(values).all() or self.unit <= 0 or min(self.std) <= 0:
            raise InputError(f"{self}: mean must be finite, std above 0")

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return what a network expects for pixels (..., channels)."""
        ordered = pixels[..., ::-1] if self.bgr else pixels
        mean, std = np.array(self.mean, np.float32), np.array(self.std, np.float32)
        return np.asarray((ordered.astype(np.float32) / np.float32(self.unit) - mean) / std)

    def require(self, channels: int) -> None:
        """Refuse figures for another number of channels."""
        if not {len(self.mean), len(self.std)} <= {1, channels} or (self.bgr and channels != 3):
            raise InputError(f"--scale {self} does not fit an input of {channels} channel(s)")

    def __str__(self) -> str:
        for name, scale in NAMED.items():
            if scale == self:
                return name
        figures = (",".join(f"{v:g}" for v in values) for values in (self.mean, self.std))
        text = "mean={} std={}".format(*figures)
        unit = "" if self.unit == 255 else f" of pixels / {self.unit:g}"
        return f"{text}{' bgr' if self.bgr else ''}{unit}"


NAMED = {
    "0..255": Scale(),
    "0..1": Scale(255),
    "-1..1": Scale(127.5, (1.0,)),
    "imagenet": Scale(255, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "caffe": Scale(1, (103.939, 116.779, 123.68), bgr=True),
}
CHOICES = (
    f"{', '.join(NAMED)}, or 'mean=R,G,B std=R,G,B' (of pixels from 0 to 1; 'mean=B,G,R "
    "std=B,G,R bgr' for networks that take blue first)"
)


def parse(text: str) -> Scale:
    """Read a value of `--scale`."""
    if text in NAMED:
        return NAMED[text]
    number = r"[-+.\de]+(?:,[-+.\de]+)*"
    if found := re.fullmatch(rf"mean=({number})[ ;]+std=({number})([ ;]+bgr)?", text.strip()):
        try:
            mean, std = (tuple(map(float, each.split(","))) for each in found.groups()[:2])
        except ValueError:
            raise InputError(f"--scale takes {CHOICES}, not '{text}'") from None
        if max(map(abs, (*mean, *std))) > 2:
            raise InputError(
                f"--scale takes mean and std of pixels from 0 to 1, not '{text}'; divide by 255"
            )
        return Scale(255, mean, std, bgr=bool(found[3]))
    raise InputError(f"--scale takes {CHOICES}, not '{text}'")
