"""Palettes of a DICOM, also those that are stored as segments (PS3.3 C.7.9.2)."""

import numpy as np
from numpy.typing import NDArray

from sightstream.images.dicom_grey import Lut, table
from sightstream.images.dicom_header import Header, damaged

_COLOURS = ("Red", "Green", "Blue")
_MOST = 2**16
_DISCRETE, _LINEAR, _INDIRECT = 0, 1, 2


def picture(header: Header, stored: NDArray) -> NDArray[np.uint8]:
    """Return the colours of indices (height, width) as (height, width, 3)."""
    luts = [_lut(header, colour) for colour in _COLOURS]
    # Some writers say 16 bits, and store 8.
    shift = 8 if max(int(each.entries.max()) for each in luts) > 0xFF else 0
    bands = [each.at(stored).astype(np.uint16) >> shift for each in luts]
    return np.stack(bands, axis=-1).astype(np.uint8)


def _lut(header: Header, colour: str) -> Lut:
    tables, name = header.tables, f"{colour}PaletteColorLookupTable"
    descriptor, data = tables.get(f"{name}Descriptor"), tables.get(f"{name}Data")
    segments = tables.get(f"Segmented{name}Data")
    if descriptor is None or (data is None and not isinstance(segments, bytes)):
        raise damaged("it has a palette, and its header lacks the colours")
    if data is not None:
        return table(descriptor, data, header)
    size = 1 if int(descriptor[2]) == 8 else 2
    kind = f"{'<' if header.is_little_endian else '>'}u{size}"
    numbers = np.frombuffer(segments[: len(segments) // size * size], kind).tolist()
    return table(descriptor, _expanded(numbers, size), header)


def _expanded(numbers: list[int], size: int) -> list[int]:
    """The entries of all segments, and no more than a table can have, whatever they claim."""
    entries: list[int] = []
    place = 0
    while place + 1 < len(numbers) and len(entries) < _MOST:
        if numbers[place] != _INDIRECT:
            place = _append(numbers, place, entries)
            continue
        end = place + 2 + 4 // size
        offset = sum(each << 8 * size * n for n, each in enumerate(numbers[place + 2 : end]))
        source = offset // size
        for _ in range(numbers[place + 1]):
            if len(entries) < _MOST:
                source = _append(numbers, source, entries)
        place = end
    return entries


def _append(numbers: list[int], place: int, entries: list[int]) -> int:
    """Add a discrete or a linear segment, and return where the next one begins."""
    kind, count = numbers[place : place + 2]
    if count and kind == _DISCRETE:
        entries += numbers[place + 2 : place + 2 + count]
        return place + 2 + count
    if count and kind == _LINEAR and entries:
        line = np.linspace(entries[-1], numbers[place + 2], count + 1)
        entries += np.rint(line[1:]).astype(int).tolist()
        return place + 3
    raise damaged("a segment of its palette is of no known kind")
