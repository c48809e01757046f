"""tiff_damage: a damaged strip or tile is refused, and an intact one of each kind is not."""

import re
import zlib
from io import BytesIO

import numpy as np
import pytest
import tifffile
from PIL import Image

from sightstream.images.decode import Decoded, Preprocessing, decode

pytest.importorskip("imagecodecs")

HEIGHT, WIDTH = 240, 320
Y, X = np.mgrid[0:HEIGHT, 0:WIDTH]
NOISE = np.random.default_rng(5).integers(0, 20, (HEIGHT, WIDTH, 3))
COLOUR = (np.dstack([X // 2, Y // 2, (X + Y) // 4]) + NOISE).astype(np.uint8)
BLACK_AND_WHITE = Image.fromarray((X + Y) // 7 % 2 == 1)
SAME = Preprocessing(HEIGHT, WIDTH)


def saved(picture, compression, strip=10**7, **tags):
    stream = BytesIO()
    picture.save(stream, "TIFF", compression=compression, strip_size=strip, tiffinfo=tags)
    return stream.getvalue()


def written(values, **options):
    stream = BytesIO()
    tifffile.imwrite(stream, values, **options)
    return stream.getvalue()


def damaged(data, how):
    """Damage the first strip or tile from its middle on."""
    with tifffile.TiffFile(BytesIO(data)) as file:
        page = file.pages.first
        start, size = page.dataoffsets[0], page.databytecounts[0]
    middle, end = start + size // 2, start + size
    inside = data[middle:end]
    other = {
        "zeros": bytes(len(inside)),
        "some zeros": bytes(64) + inside[64:],
        "some lost": inside[64:] + bytes(64),
        "turned": bytes(each ^ 255 for each in inside[:8]) + inside[8:],
    }[how]
    return data[:middle] + other + data[end:]


PICTURES = {
    "deflate": saved(Image.fromarray(COLOUR), "tiff_adobe_deflate"),
    "deflate, strips": saved(Image.fromarray(COLOUR), "tiff_adobe_deflate", 5000),
    "deflate, tiles": written(COLOUR, photometric="rgb", compression="zlib", tile=(64, 48)),
    "deflate, 16 bits": written(COLOUR * np.uint16(257), photometric="rgb", compression="zlib"),
    "JPEG": saved(Image.fromarray(COLOUR), "jpeg"),
    "JPEG, strips": saved(Image.fromarray(COLOUR), "jpeg", 30_000),
    "JPEG, grey": saved(Image.fromarray(COLOUR[..., 0]), "jpeg"),
    "JPEG, tiles": written(COLOUR, photometric="rgb", compression="jpeg", tile=(64, 48)),
    "JPEG, planes": written(np.moveaxis(COLOUR, -1, 0), photometric="rgb", compression="jpeg",
                            planarconfig="separate"),
    "LZW": saved(Image.fromarray(COLOUR), "tiff_lzw"),
    "G3": saved(BLACK_AND_WHITE, "group3"),
    "G4": saved(BLACK_AND_WHITE, "group4"),
    "G4, strips": saved(BLACK_AND_WHITE, "group4", 2000),
}  # fmt: skip


# A decoder of JPEG may find its way again behind other damage, and then nobody can tell.
HOWS = {True: ["zeros", "some zeros"], False: ["zeros", "some zeros", "some lost", "turned"]}


@pytest.mark.parametrize(("name", "how"), [(n, h) for n in PICTURES for h in HOWS["JPEG" in n]])
def test_a_damaged_strip_or_tile_is_refused(name, how):
    refused = decode(damaged(PICTURES[name], how), SAME)
    assert not isinstance(refused, Decoded)
    assert refused.code in ("corrupt", "truncated")


@pytest.mark.parametrize("name", PICTURES)
def test_an_intact_one_is_read(name):
    result = decode(PICTURES[name], SAME)
    assert isinstance(result, Decoded), result


@pytest.mark.parametrize("photometric", [0, 1])
@pytest.mark.parametrize("options", [0, 1, 4, 5])
@pytest.mark.parametrize("strip", [2000, 10**7])
def test_fax_of_every_kind_is_read(strip, options, photometric):
    for orientation in range(1, 9):
        stream = BytesIO()
        tags = {262: photometric, 274: orientation, 292: options}
        BLACK_AND_WHITE.save(stream, "TIFF", compression="group3", strip_size=strip, tiffinfo=tags)
        assert isinstance(decode(stream.getvalue(), SAME), Decoded)


@pytest.mark.parametrize("padding", ["rows", "no end"])
def test_deflate_that_others_write_is_read(padding):
    """The last strip may be filled up to the height of all; the checksum may be left out."""
    rows, size = COLOUR.tobytes(), 100 * WIDTH * 3
    strips = [rows[start : start + size] for start in range(0, len(rows), size)]
    if padding == "rows":
        strips[-1] = strips[-1].ljust(size, b"\0")
    packed = [zlib.compress(each)[: -4 if padding == "no end" else None] for each in strips]
    data = written(
        iter(packed), shape=COLOUR.shape, dtype="u1", photometric="rgb", compression="zlib",
        rowsperstrip=100,
    )  # fmt: skip
    np.testing.assert_array_equal(decode(data, SAME).pixels, COLOUR)


@pytest.mark.parametrize("dtype", ["u1", "u2", "f4"])
@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("lost", [0, 3])
def test_what_was_never_written_is_refused_by_its_kind(lost, compression, dtype):
    data = bytearray(written(COLOUR.astype(dtype), photometric="rgb", compression=compression,
                             tile=(64, 48), bigtiff=True))  # fmt: skip
    with tifffile.TiffFile(BytesIO(data)) as file:
        for code in (324, 325):
            tag = file.pages.first.tags[code]
            size = {3: 2, 4: 4, 16: 8}[int(tag.dtype)]
            start = tag.valueoffset + size * lost
            data[start : start + size] = bytes(size)
    refused = decode(bytes(data), SAME)
    assert refused.code == "unsupported_format"
    assert "lacks 1 of 28 strips or tiles (sparse)" in refused.detail


@pytest.mark.parametrize("dtype", ["u1", "u2", "f4"])
@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize(
    "kind", [{"rowsperstrip": 40}, {"tile": (64, 48)}], ids=["strips", "tiles"]
)
def test_a_size_that_needs_more_strips_or_tiles_than_there_are_is_damage(kind, compression, dtype):
    data = bytearray(written(COLOUR.astype(dtype), photometric="rgb", compression=compression,
                             **kind))  # fmt: skip
    assert len(decode(bytes(data), SAME).pixels)
    with tifffile.TiffFile(BytesIO(data)) as file:
        tag = file.pages.first.tags["ImageLength"]
        height = tag.value + 100
        data[tag.valueoffset : tag.valueoffset + 2] = height.to_bytes(2, "little")
    refused = decode(bytes(data), SAME)
    assert refused.code == "corrupt"
    assert re.search(r"it has \d+ of its \d+ strips or tiles", refused.detail)


def test_a_place_before_the_file_is_damage():
    data = bytearray(written(COLOUR.astype("f4"), photometric="rgb", rowsperstrip=40))
    with tifffile.TiffFile(BytesIO(data)) as file:
        tag = file.pages.first.tags["StripOffsets"]
    data[tag.offset + 2 : tag.offset + 4] = (9).to_bytes(2, "little")  # signed, of four bytes
    data[tag.valueoffset + 4 : tag.valueoffset + 8] = (-104).to_bytes(4, "little", signed=True)
    assert decode(bytes(data), SAME).code == "corrupt"
