"""AVIF and HEIC that tests put together from encoded pictures, of kinds that no library writes."""

from dataclasses import dataclass, field
from io import BytesIO
from struct import pack

import pillow_heif

from sightstream.images.boxes import top_level


def box(kind, *parts, full=False):
    content = (b"\0\0\0\0" if full else b"") + b"".join(parts)
    return pack(">I", 8 + len(content)) + kind + content


def ispe(size):
    """The property of an item's size."""
    return box(b"ispe", pack(">II", *size), full=True)


@dataclass
class Item:
    """Something in a file, with the boxes of its properties."""

    kind: bytes
    content: bytes
    properties: list = field(default_factory=list)
    references: list = field(default_factory=list)
    """Kinds, each with the numbers of items, from 1."""


def container(brand, items):
    """A file of items, of which the first one is the picture."""
    kind = box(b"ftyp", brand, b"\0\0\0\0", brand, b"mif1miaf")
    start = len(kind) + len(_meta(items, 0)) + 8
    return kind + _meta(items, start) + box(b"mdat", *(each.content for each in items))


def _meta(items, start):
    properties, held, located, entries, references = [], [], [], [], []
    for number, item in enumerate(items, 1):
        numbers = range(len(properties) + 1, len(properties) + len(item.properties) + 1)
        properties += item.properties
        held.append(pack(">HB", number, len(numbers)) + bytes(numbers))
        located.append(pack(">HHHII", number, 0, 1, start, len(item.content)))
        start += len(item.content)
        entries.append(box(b"infe", b"\2\0\0\0", pack(">HH", number, 0), item.kind, b"\0"))
        references += [
            box(kind, pack(f">{len(to) + 2}H", number, len(to), *to))
            for kind, to in item.references
        ]
    count = pack(">H", len(items))
    parts = [
        box(b"hdlr", b"\0\0\0\0pict", bytes(13), full=True),
        box(b"pitm", pack(">H", 1), full=True),
        box(b"iloc", b"\x44\0", count, *located, full=True),
        box(b"iinf", count, *entries, full=True),
        *([box(b"iref", *references, full=True)] if references else []),
        box(b"iprp", box(b"ipco", *properties),
            box(b"ipma", b"\0\0", count, *held, full=True)),
    ]  # fmt: skip
    return box(b"meta", *parts, full=True)


def avif(picture, size=None):
    """The item of a picture of Pillow, whose header may claim another size."""
    picture.save(stream := BytesIO(), "AVIF", quality=95, subsampling="4:4:4")
    return _encoded(b"av01", stream.getvalue(), size or picture.size)


def heic(picture, *more):
    """The item of a picture of Pillow, with more properties."""
    pillow_heif.from_pillow(picture).save(stream := BytesIO(), quality=95, chroma=444)
    item = _encoded(b"hvc1", stream.getvalue(), picture.size)
    item.properties += more
    return item


def grid(tiles, columns, size):
    """Items of a picture of `size` that is a grid of items of equal size."""
    payload = pack(">BBBBHH", 0, 0, len(tiles) // columns - 1, columns - 1, *size)
    numbers = range(2, len(tiles) + 2)
    shared = [each for each in tiles[0].properties if each[4:8] == b"pixi"]
    return [Item(b"grid", payload, [ispe(size), *shared], [(b"dimg", numbers)]), *tiles]


def _encoded(kind, data, size):
    """The item of a file with one picture."""
    (content,) = (data[begin:end] for name, begin, end in top_level(data) if name == b"mdat")
    found = [_property(data, name) for name in (b"av1C", b"hvcC", b"colr", b"pixi") if name in data]
    return Item(kind, content, [ispe(size), *found])


def _property(data, kind):
    place = data.index(kind) - 4
    return data[place : place + int.from_bytes(data[place : place + 4], "big")]
