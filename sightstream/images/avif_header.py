"""Sizes in the header of an AVIF: what its boxes claim, and what its AV1 pictures are.

The decoder would scale pictures to what the boxes claim. What cannot be followed here is left to
the decoder. ISO/IEC 14496-12 and 23008-12; AV1 Bitstream, 5.5.
"""

from collections.abc import Iterator

from sightstream.images.av1 import Size, coded_size
from sightstream.images.boxes import top_level

_TABLES = (b"mdia", b"minf", b"stbl")


def sizes(data: bytes) -> Iterator[tuple[Size, Size]]:
    """Yield the size that the header claims of a picture, and that of its AV1, where known.

    The pictures are the primary one, or the tiles of its grid; and the first of each track.
    """
    for kind, content in _boxes(data):
        try:
            if kind == b"meta":
                yield from _Items(content[4:], data).sizes()
            elif kind == b"moov":
                yield from _tracks(content, data)
        except (IndexError, KeyError, ValueError):
            continue


class _Items:
    """The items of a `meta` box."""

    def __init__(self, meta: bytes, data: bytes) -> None:
        self._data, self._boxes = data, dict(_boxes(meta))
        properties = dict(_boxes(self._boxes[b"iprp"]))
        self._properties = list(_boxes(properties[b"ipco"]))
        self._held = dict(_associations(properties[b"ipma"]))

    def sizes(self) -> Iterator[tuple[Size, Size]]:
        primary = _number(self._boxes[b"pitm"], 4, 4 if self._boxes[b"pitm"][0] else 2)
        for item in [primary, *self._tiles(primary)]:
            held = dict(self._properties[place - 1] for place in self._held[item] if place)
            if b"av1C" not in held or b"ispe" not in held:
                continue
            coded = coded_size(held[b"av1C"][4:]) or coded_size(self._content(item))
            if coded:
                yield _pair(held[b"ispe"], 4), coded

    def _tiles(self, primary: int) -> list[int]:
        """The items that a grid is made of."""
        references = self._boxes.get(b"iref", b"\0\0\0\0")
        width = 4 if references[0] else 2
        for kind, content in _boxes(references[4:]):
            if kind == b"dimg" and _number(content, 0, width) == primary:
                count = _number(content, width, 2)
                return [_number(content, width + 2 + n * width, width) for n in range(count)]
        return []

    def _content(self, item: int) -> bytes:
        """The first extent of an item; empty where it is not in this file."""
        box = self._boxes[b"iloc"]
        version = box[0]
        offset, length, base, index = box[4] >> 4, box[4] & 15, box[5] >> 4, box[5] & 15
        wide = 4 if version == 2 else 2
        count, place = _number(box, 6, wide), 6 + wide
        for _ in range(count):
            found, method = _number(box, place, wide), 0
            place += wide
            if version:
                method, place = _number(box, place, 2) & 15, place + 2
            start, place = _number(box, place + 2, base), place + 2 + base
            extents, place = _number(box, place, 2), place + 2
            index = index if version else 0
            if found == item and extents and method in (0, 1):
                source = self._boxes[b"idat"] if method else self._data
                start += _number(box, place + index, offset)
                size = _number(box, place + index + offset, length)
                return source[start : start + size] if size else source[start:]
            place += extents * (index + offset + length)
        return b""


def _tracks(movie: bytes, data: bytes) -> Iterator[tuple[Size, Size]]:
    for kind, track in _boxes(movie):
        if kind != b"trak":
            continue
        held = dict(_boxes(track))
        tables, header = held, held[b"tkhd"]
        for name in _TABLES:
            tables = dict(_boxes(tables[name]))
        for entry_kind, entry in _boxes(tables[b"stsd"][8:]):
            if entry_kind == b"av01":
                coded = coded_size(dict(_boxes(entry[78:]))[b"av1C"][4:])
                coded = coded or coded_size(data[_first_chunk(tables) :])
                width, height = _pair(header, len(header) - 8)
                if coded:
                    yield (width >> 16, height >> 16), coded


def _first_chunk(tables: dict[bytes, bytes]) -> int:
    """Where the first picture of a track lies."""
    if b"stco" in tables:
        return _number(tables[b"stco"], 8, 4)
    return _number(tables[b"co64"], 8, 8)


def _associations(box: bytes) -> Iterator[tuple[int, list[int]]]:
    """Yield each item, and the numbers of its properties, from 1."""
    wide, bits = (4 if box[0] else 2), (15 if box[3] & 1 else 7)
    place = 8
    for _ in range(_number(box, 4, 4)):
        item, count = _number(box, place, wide), box[place + wide]
        place += wide + 1
        step = 2 if bits == 15 else 1
        numbers = [_number(box, place + n * step, step) & ((1 << bits) - 1) for n in range(count)]
        yield item, numbers
        place += count * step


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    return ((kind, data[begin:end]) for kind, begin, end in top_level(data))


def _number(data: bytes, place: int, size: int) -> int:
    if place + size > len(data):
        raise ValueError("the header is cut short")
    return int.from_bytes(data[place : place + size], "big")


def _pair(data: bytes, place: int) -> Size:
    return _number(data, place, 4), _number(data, place + 4, 4)
