"""The directories of a TIFF, one for each page, and which of them is the picture."""

import struct
from collections.abc import Iterator
from io import BytesIO
from typing import Any

from PIL.TiffImagePlugin import ImageFileDirectory_v2

from sightstream.images.tiff_tags import Tags, all_of

MAX_DIRECTORIES = 200
PREVIEW = 4
"""A first page is a preview where a later one has more than so many times its pixels."""

_BIG_ENDIAN_64 = b"MM\0+"


def at_picture(stream: BytesIO) -> tuple[BytesIO, Tags]:
    """The same file, with the directory that holds its picture as the first one, and what it says.

    That is the first page, unless it is marked as reduced or is a preview by its size: then the
    largest other one that is neither reduced nor a mask.
    """
    first = _read_directory(stream)
    tags = _tags(stream, first)
    others = [
        (offset, each)
        for offset, each in _others(stream, first)
        if not (each.is_reduced or each.is_mask) and each.width and each.height
    ]
    if not others:
        return stream, tags
    offset, largest = max(others, key=lambda other: other[1].width * other[1].height)
    is_longer = largest.width >= tags.width and largest.height >= tags.height
    ratio = largest.width * largest.height / max(1, tags.width * tags.height)
    if tags.is_reduced or (is_longer and ratio > PREVIEW):
        return _starting_at(offset, stream.getvalue()), largest
    return stream, tags


def _read_directory(stream: BytesIO, offset: int = 0) -> Any:
    """Read the directory at an offset, or the first one."""
    stream.seek(0)
    header = stream.read(16)
    directory = ImageFileDirectory_v2(header[: 16 if header[2] == 43 else 8])
    if header[:4] == _BIG_ENDIAN_64:  # Pillow takes it for one of 32 bits.
        directory._bigtiff = True
        directory.next = int.from_bytes(header[8:16], "big")
    stream.seek(offset or directory.next)
    directory.load(stream)
    return directory


def _tags(stream: BytesIO, directory: Any) -> Tags:
    tags = Tags(directory)
    data = stream.getvalue()
    has_tiles = 322 in directory and 324 not in directory and _counts_tiles(tags, directory)
    loses_jpeg = tags.compression == 6 and _misses_jpeg(data, directory)
    tags.is_for_pillow = data[:4] != _BIG_ENDIAN_64 and not has_tiles and not loses_jpeg
    return tags


def _counts_tiles(tags: Tags, directory: Any) -> bool:
    """True where there are as many strips as there would be tiles: some writers call tiles so."""
    width, height = (all_of(directory, tag) or (0,) for tag in (322, 323))
    if not (width[0] and height[0]):
        return False
    return len(all_of(directory, 273)) == tags.segment_count


def _misses_jpeg(data: bytes, directory: Any) -> bool:
    """True where JPEGInterchangeFormat leads beside the JPEG, which is the one strip."""
    claimed, strips = all_of(directory, 513), all_of(directory, 273)
    if not claimed or len(strips) != 1:
        return False
    begins = [data[each : each + 2] == b"\xff\xd8" for each in (claimed[0], strips[0])]
    return begins == [False, True]


def _others(stream: BytesIO, first: Any) -> Iterator[tuple[int, Tags]]:
    waiting = [*all_of(first, 330), first.next]
    seen = {0}
    while waiting and len(seen) < MAX_DIRECTORIES:
        offset = waiting.pop(0)
        if offset in seen or not isinstance(offset, int):
            continue
        seen.add(offset)
        try:
            directory = _read_directory(stream, offset)
            tags = _tags(stream, directory)
        except Warning:
            raise
        except Exception:  # noqa: S112, since a broken directory costs no other one its picture
            continue
        waiting += [*all_of(directory, 330), directory.next]
        yield offset, tags


def _starting_at(offset: int, data: bytes) -> BytesIO:
    order = "<" if data[:2] == b"II" else ">"
    if 43 in data[2:4]:
        return BytesIO(data[:8] + struct.pack(order + "Q", offset) + data[16:])
    return BytesIO(data[:4] + struct.pack(order + "I", offset) + data[8:])
