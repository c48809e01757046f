"""Grey values of a DICOM to 8 bits: modality LUT, VOI LUT or window, inversion (PS3.3 C.11)."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightstream.images.dicom_header import Header, damaged, whole
from sightstream.images.limits import RefusedError
from sightstream.images.windows import Window, chosen

Floats = NDArray[np.float64]

_BLOCK = 2**20
"""Values that are calculated at a time: as floats they take eight times the memory."""


@dataclass(frozen=True)
class Lut:
    """A table: its first entry is that of `first` and all below, its last one of all above."""

    entries: NDArray
    first: int
    white: int

    def at(self, values: NDArray) -> Floats:
        """The entries of values."""
        places = np.rint(values).astype(np.int64) - self.first
        found: Floats = self.entries[places.clip(0, len(self.entries) - 1)].astype(np.float64)
        return found

    def shown(self, values: Floats) -> Floats:
        """Values as brightness: 0 is black, 1 white."""
        return self.at(values) / self.white


def table(descriptor: Any, data: Any, header: Header) -> Lut:
    """Read a table, which is stored as numbers or as bytes of 8 or 16 bits."""
    count, first, bits = (int(each) for each in descriptor)
    count = count & 0xFFFF or 2**16
    if isinstance(data, bytes):
        order = "<" if header.is_little_endian else ">"
        kind = np.dtype(f"{order}u2") if len(data) >= 2 * count else np.dtype("u1")
        entries = np.frombuffer(data[: len(data) // kind.itemsize * kind.itemsize], kind)
    else:
        entries = np.atleast_1d(np.array(data, np.uint16))
    entries = entries[:count]
    if not len(entries):
        raise damaged("a table of its values is empty")
    return Lut(entries, first, max(2**bits - 1, int(entries.max())))


def picture(header: Header, stored: NDArray, frame: int, window: str) -> NDArray[np.uint8]:
    """Return (height, width) as it is to be seen through a window, see `windows.chosen`.

    Of 16 bits and less each value is calculated once.
    """
    modality = _modality(header, frame)
    view = _view(header, frame, window) or _automatic(header, stored, modality)
    is_inverse = header.photometric == "MONOCHROME1" or header.tables.get(
        "PresentationLUTShape"
    ) == "INVERSE"  # fmt: skip

    def calculated(values: NDArray) -> NDArray[np.uint8]:
        brightness = view.shown(modality(values))
        return ((1 - brightness if is_inverse else brightness) * 255 + 0.5).astype(np.uint8)

    if stored.dtype.kind in "iu" and stored.dtype.itemsize <= 2:
        found: NDArray[np.uint8] = calculated(_domain(stored))[_unsigned(stored)]
        return found
    return np.concatenate([calculated(rows) for rows in _blocks(stored)])


def _unsigned(stored: NDArray) -> NDArray:
    return stored.view(f"u{stored.dtype.itemsize}")


def _domain(stored: NDArray) -> NDArray:
    """Each value that the type can hold, at the place of its bits as an unsigned number."""
    size = stored.dtype.itemsize
    return np.arange(256**size, dtype=np.uint32).astype(f"u{size}").view(stored.dtype)


def _blocks(stored: NDArray) -> Iterator[NDArray]:
    step = max(1, _BLOCK // max(1, stored.shape[1]))
    for row in range(0, len(stored), step):
        yield stored[row : row + step]


def _modality(header: Header, frame: int) -> Callable[[NDArray], Floats]:
    if items := header.tables.get("ModalityLUTSequence"):
        return table(items[0].LUTDescriptor, items[0].LUTData, header).at
    source = _of_frame(header.tables, frame, "PixelValueTransformationSequence")
    slope, intercept = source.get("RescaleSlope"), source.get("RescaleIntercept")
    if slope is None or intercept is None:
        return lambda values: values.astype(np.float64)
    return lambda values: values.astype(np.float64) * float(slope) + float(intercept)


def _of_frame(tables: Any, frame: int, sequence: str) -> Any:
    """What an enhanced file says of one of its frames, or of all of them; else the file itself."""
    each = tables.get("PerFrameFunctionalGroupsSequence") or ()
    shared = tables.get("SharedFunctionalGroupsSequence") or ()
    for groups in (*each[frame : frame + 1], *shared[:1]):
        if found := groups.get(sequence):
            return found[0]
    return tables


def _view(header: Header, frame: int, window: str) -> Window | Lut | None:
    wanted = chosen(window)
    if isinstance(wanted, Window):
        return wanted
    source = _of_frame(header.tables, frame, "FrameVOILUTSequence")
    luts = [table(each.LUTDescriptor, each.LUTData, header)
            for each in source.get("VOILUTSequence") or ()]  # fmt: skip
    views: Sequence[Window | Lut] = [*luts, *_windows(source)]
    if wanted <= len(views):
        return views[wanted - 1]
    if window:
        sentence = f"The model looks through window {wanted} of a DICOM; it has {len(views)}."
        raise RefusedError("unsupported_format", sentence)
    return None


def _windows(source: Any) -> list[Window]:
    function = str(source.get("VOILUTFunction") or "LINEAR").strip().upper()
    if function not in ("LINEAR", "LINEAR_EXACT", "SIGMOID"):
        function = "LINEAR"
    centers, widths = (_numbers(source.get(each)) for each in ("WindowCenter", "WindowWidth"))
    pairs = zip(centers, widths, strict=False)
    windows = [Window(center, width, function) for center, width in pairs]
    return [each for each in windows if each.is_valid]


def _numbers(value: Any) -> list[float]:
    if value is None or value == "":
        return []
    return [float(each) for each in (value if hasattr(value, "__len__") else [value])]


def _automatic(header: Header, stored: NDArray, modality: Callable[[NDArray], Floats]) -> Window:
    """From the least to the largest value that is no padding; where all are, all are black."""
    least: list[float] = []
    largest: list[float] = []
    for values in _present(stored):
        real = modality(values)
        seen = real[np.isfinite(real) & ~_is_padding(header, values)]
        if seen.size:
            least.append(float(np.min(seen)))
            largest.append(float(np.max(seen)))
    if not least:
        return Window(math.inf, 0, "LINEAR_EXACT")
    low, high = min(least), max(largest)
    return Window(low / 2 + high / 2, high - low, "LINEAR_EXACT")


def _present(stored: NDArray) -> Iterator[NDArray]:
    if stored.dtype.kind in "iu" and stored.dtype.itemsize <= 2:
        domain = _domain(stored)
        is_there = np.zeros(len(domain), bool)
        for rows in _blocks(stored):
            is_there[_unsigned(rows)] = True
        yield domain[is_there]
    else:
        yield from _blocks(stored)


def _is_padding(header: Header, values: NDArray) -> NDArray[np.bool_]:
    if "PixelPaddingValue" not in header.tables:
        return np.zeros(values.shape, bool)
    one = whole(header.tables, "PixelPaddingValue", 0)
    low, high = sorted((one, whole(header.tables, "PixelPaddingRangeLimit", one)))
    found: NDArray[np.bool_] = (values >= low) & (values <= high)
    return found
