"""Windows of grey values: DICOM's three functions (PS3.3 C.11.2.1.2 and C.11.2.1.3), and names."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Window:
    """The values that are seen, in the unit of the modality (CT: Hounsfield units)."""

    center: float
    width: float
    function: str = "LINEAR"

    @property
    def is_valid(self) -> bool:
        """False where its function is not defined."""
        least = 1 if self.function == "LINEAR" else 5e-324
        return math.isfinite(self.center) and least <= self.width < math.inf

    def shown(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Values as brightness: 0 is black, 1 white."""
        center, width = self.center, self.width
        if self.function == "SIGMOID":
            with np.errstate(over="ignore"):
                brightness: NDArray[np.float64] = 1 / (1 + np.exp(-4 * (values - center) / width))
            return brightness
        if self.function == "LINEAR":
            center, width = center - 0.5, width - 1
        if not width:
            return (values > center).astype(np.float64)
        return ((values - (center - width / 2)) / width).clip(0, 1)


NAMED = {
    "abdomen": Window(50, 400),
    "bone": Window(400, 1800),
    "brain": Window(40, 80),
    "liver": Window(30, 150),
    "lung": Window(-600, 1500),
    "mediastinum": Window(50, 350),
}
"""Windows of CT that radiologists use, in Hounsfield units."""


def chosen(window: str) -> Window | int:
    """What the text means: a window, or the number of one of the file's own, from 1.

    Raises:
        ValueError: it is none of a number, a name and center/width.
    """
    if window in NAMED:
        return NAMED[window]
    try:
        if "/" not in window:
            number = int(window or "1")
            if number >= 1:
                return number
        else:
            center, width = map(float, window.split("/"))
            fixed = Window(center, width)
            if fixed.is_valid:
                return fixed
    except (TypeError, ValueError):
        pass
    raise ValueError(
        "window must be empty (the file's first), the number of one of the file's, one of "
        f"{', '.join(NAMED)}, or center/width such as -600/1500, not {window!r}"
    )
