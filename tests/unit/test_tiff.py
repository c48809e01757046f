"""tiff: every layout of samples is read rightly, or refused by the name of its kind."""

import struct
from io import BytesIO

import numpy as np
import pytest
import tifffile
from PIL import Image

from sightstream.images import extra, tiff, tiff_pages
from sightstream.images.decode import Decoded, Preprocessing, Rejected, decode

pytest.importorskip("imagecodecs")

SIDE = 64
Y, X = np.mgrid[0:SIDE, 0:SIDE]
GREY = (X * 2 + Y * 2 + 3).astype(np.uint8)
GREY[0, 0], GREY[0, 1] = 0, 255
RGB = np.dstack([GREY, 255 - GREY, GREY[::-1]])
DEEP = RGB.astype(np.uint16) * 257
ONE, THREE = Preprocessing(SIDE, SIDE, 1), Preprocessing(SIDE, SIDE)


def written(values, **options):
    stream = BytesIO()
    tifffile.imwrite(stream, values, **options)
    return stream.getvalue()


def pixels(data, want=THREE):
    result = decode(data, want)
    assert isinstance(result, Decoded), result
    return result.pixels.astype(int)


def refusal(data):
    result = decode(data, THREE)
    assert isinstance(result, Rejected), result
    return result


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "f2", "f4", "f8"])
def test_rgb_of_every_type_is_exact(dtype, planar, big, order):
    factor = {"u2": 257, "u4": 2**24 + 2**16 + 257}.get(dtype, 1)
    values = RGB.astype(order + dtype) * factor
    if planar == "separate":
        values = np.moveaxis(values, -1, 0)
    options = {"photometric": "rgb", "planarconfig": planar, "bigtiff": big, "byteorder": order}
    np.testing.assert_array_equal(pixels(written(values, **options)), RGB)


@pytest.mark.parametrize("tile", [None, (32, 48)])
@pytest.mark.parametrize("predictor", [False, True])
@pytest.mark.parametrize("compression", [None, "lzw", "deflate", "packbits", "lzma", "zstd"])
@pytest.mark.parametrize("dtype", ["u2", "u4", "f4"])
def test_compressions_are_exact(dtype, compression, predictor, tile):
    values = RGB.astype(dtype) * {"u2": 257, "u4": 2**24 + 2**16 + 257, "f4": 1}[dtype]
    if predictor and compression in (None, "packbits"):
        predictor = False
    for planar, stored in (("contig", values), ("separate", np.moveaxis(values, -1, 0))):
        options = {"compression": compression, "predictor": predictor, "tile": tile}
        data = written(stored, photometric="rgb", planarconfig=planar, **options)
        np.testing.assert_array_equal(pixels(data), RGB)


@pytest.mark.parametrize("tile", [None, (32, 48)])
@pytest.mark.parametrize("compression", ["webp", "jpeg2000", "jpegxl", "lerc", "png"])
def test_image_codecs_are_read_in_strips_and_tiles(compression, tile):
    args = {"webp": {"lossless": True}, "jpegxl": {"lossless": True}}.get(compression, {})
    data = written(RGB, photometric="rgb", compression=compression, compressionargs=args, tile=tile)
    assert abs(pixels(data) - RGB).mean() <= 2


def test_a_12_bit_jpeg_in_a_tiff_is_read():
    values = GREY.astype(np.uint16) * 16
    values[0, 1] = 4095
    args = {"compressionargs": {"bitspersample": 12, "level": 98}}
    data = written(values, photometric="minisblack", compression="jpeg", **args)
    assert abs(pixels(data, ONE)[..., 0] - GREY.astype(int)).mean() <= 2


@pytest.mark.parametrize("dtype", ["u1", "u2", "f4"])
@pytest.mark.parametrize(
    ("extra", "alpha"),
    [(None, False), ((0,), False), (("unassalpha",), True), ((0, 0), False), ((2, 0), True)],
)
def test_further_bands_are_alpha_only_where_the_file_says_so(extra, alpha, dtype):
    deep = {"u1": RGB, "u2": DEEP, "f4": RGB / 255}[dtype].astype(dtype)
    bands = 1 if extra is None else len(extra)
    full = {"u1": 255, "u2": 65_535, "f4": 1}[dtype]
    more = np.full((SIDE, SIDE, bands), full // 4 if dtype != "f4" else 0.25, dtype)
    more[0] = full  # opaque where it is alpha
    data = written(np.dstack([deep, more]), photometric="rgb", extrasamples=extra)
    if extra is None:
        data = without_extra_samples(data)
    opacity = np.where(np.arange(SIDE) == 0, 1, 0.25)[:, None, None] if alpha else 1
    assert abs(pixels(data) - (RGB * opacity + 255 * (1 - opacity))).max() <= 2


def without_extra_samples(data):
    """The same file, whose tag ExtraSamples has become one that nobody knows."""
    tag = (338).to_bytes(2, "little") + (3).to_bytes(2, "little")
    assert data.count(tag) == 1
    return data.replace(tag, (339 + 64_000).to_bytes(2, "little") + tag[2:]).replace(b"", b"")


@pytest.mark.parametrize("dtype", ["u1", "u2"])
def test_colours_that_were_multiplied_by_alpha_are_not_multiplied_again(dtype):
    deep, full = (RGB, 255) if dtype == "u1" else (DEEP, 65_535)
    half = np.full((SIDE, SIDE, 1), full // 2 + 1, dtype)
    half[0] = full
    ready = np.dstack([deep * (half / full), half]).astype(dtype)
    data = written(ready, photometric="rgb", extrasamples=("assocalpha",))
    expected = RGB * (half / full) + 255 * (1 - half / full)
    assert abs(pixels(data) - expected).max() <= 2


@pytest.mark.parametrize("compression", [None, "lzw"])
def test_grey_that_was_multiplied_by_alpha_is_read(compression):
    half = np.full_like(GREY, 128)
    data = written(np.dstack([GREY // 2, half]), photometric="minisblack", planarconfig="contig",
                   extrasamples=("assocalpha",), compression=compression)  # fmt: skip
    expected = GREY // 2 + (255 - 128)
    assert abs(pixels(data, ONE)[..., 0] - expected.astype(int)).max() <= 2


@pytest.mark.parametrize("dtype", ["u1", "u2", "f4"])
@pytest.mark.parametrize("extra", [(0,), None])
def test_the_first_of_two_bands_is_the_picture(dtype, extra):
    values = np.dstack([GREY, GREY // 3]).astype(dtype)
    data = written(values, photometric="minisblack", planarconfig="contig", extrasamples=extra)
    data = data if extra else without_extra_samples(data)
    np.testing.assert_array_equal(pixels(data, ONE)[..., 0], GREY)


@pytest.mark.parametrize("dtype", ["u1", "u2", "f4"])
@pytest.mark.parametrize(("bands", "name"), [(5, "five-band"), (8, "eight-band"), (12, "12-band")])
def test_many_bands_are_refused_by_their_number(bands, name, dtype):
    values = np.dstack([GREY] * bands).astype(dtype)
    data = written(values, photometric="minisblack", planarconfig="contig")
    refused = refusal(data)
    assert refused.code == "unsupported_format"
    assert f"{name} TIFF" in refused.detail


@pytest.mark.parametrize("dtype", ["c8", "c16"])
def test_complex_numbers_are_refused_by_name(dtype):
    refused = refusal(written(GREY.astype(dtype)))
    assert (refused.code, "complex" in refused.detail) == ("unsupported_format", True)


def test_a_palette_of_16_bits_is_read():
    table = np.random.default_rng(1).integers(0, 65_536, (3, 65_536)).astype(np.uint16)
    indices = (X * 64 + Y).astype(np.uint16)
    data = written(indices, photometric="palette", colormap=table)
    expected = table.T[indices] / table.T[indices].max() * 255
    assert abs(pixels(data) - expected).max() <= 1


@pytest.mark.parametrize("dtype", ["u1", "u2", "f4"])
@pytest.mark.parametrize("code", [1, 3])  # BYTE, SHORT
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_turned_upright(orientation, code, dtype):
    from tests.unit.test_decode import gradient, stored_as

    picture = Image.fromarray(gradient(40, 60))
    stored = np.asarray(stored_as(picture, orientation)).astype(dtype)
    tag = (274, code, 1, orientation, True)
    data = written(stored, photometric="rgb", extratags=[tag])
    result = decode(data, Preprocessing(40, 60))
    assert (result.width, result.height) == (60, 40)
    assert abs(result.pixels - gradient(40, 60).astype(int)).max() <= 1


# Which page


def pages(*each):
    stream = BytesIO()
    with tifffile.TiffWriter(stream) as writer:
        for values, options in each:
            writer.write(values, **{"photometric": "minisblack", "metadata": None, **options})
    return stream.getvalue()


SMALL = np.full((12, 16), 128, np.uint8)


@pytest.mark.parametrize("dtype", ["u1", "u2"])
@pytest.mark.parametrize("marked", [0, 1])
def test_a_preview_in_front_is_not_the_picture(marked, dtype):
    data = pages((SMALL, {"subfiletype": marked}), (GREY.astype(dtype), {}))
    np.testing.assert_array_equal(pixels(data, ONE)[..., 0], GREY)


@pytest.mark.parametrize(
    ("height", "width", "is_preview"),
    [(12, 16, True), (31, 32, True), (32, 32, False), (8, 65, False)],
)
def test_a_page_of_less_than_a_quarter_in_front_is_a_preview(height, width, is_preview):
    first = np.full((height, width), 128, np.uint8)
    result = decode(pages((first, {}), (GREY, {})), ONE)
    assert (result.width, result.height) == ((SIDE, SIDE) if is_preview else (width, height))


def test_a_picture_below_its_preview_is_found():
    data = pages((SMALL, {"subfiletype": 1, "subifds": 1}), (GREY, {}))
    np.testing.assert_array_equal(pixels(data, ONE)[..., 0], GREY)


def test_the_first_of_pages_of_about_one_size_is_the_picture():
    data = pages((GREY, {}), (np.tile(GREY, (2, 2)), {}), (SMALL, {}))
    np.testing.assert_array_equal(pixels(data, ONE)[..., 0], GREY)


def test_smaller_copies_behind_or_below_the_picture_are_not_it():
    data = pages((GREY, {"subifds": 1}), (GREY[::2, ::2], {"subfiletype": 1}), (SMALL, {}))
    np.testing.assert_array_equal(pixels(data, ONE)[..., 0], GREY)


def test_a_reduced_picture_that_is_alone_is_the_picture():
    data = pages((GREY, {"subfiletype": 1}))
    np.testing.assert_array_equal(pixels(data, ONE)[..., 0], GREY)


@pytest.mark.parametrize("photometric", ["cfa", 34892])
def test_a_dng_is_refused_by_name_and_not_classified_on_its_thumbnail(photometric):
    dng = {"subfiletype": 1, "subifds": 1, "extratags": [(50706, 1, 4, (1, 4, 0, 0), True)]}
    raw = DEEP if photometric == 34892 else DEEP[..., 0]
    data = pages((SMALL, dng), (raw, {"photometric": photometric, "planarconfig": "contig"}))
    refused = refusal(data)
    assert refused.code == "unsupported_format"
    assert "raw" in refused.detail


def test_directories_that_point_at_each_other_end():
    data = bytearray(pages((GREY, {}), (SMALL, {})))
    with tifffile.TiffFile(BytesIO(bytes(data))) as file:
        second = file.pages[1].offset
        first = file.pages[0].offset
    count = int.from_bytes(data[second : second + 2], "little")
    data[second + 2 + 12 * count : second + 6 + 12 * count] = first.to_bytes(4, "little")
    np.testing.assert_array_equal(pixels(bytes(data), ONE)[..., 0], GREY)


# Damage and limits


@pytest.mark.parametrize("compression", [None, "lzw", "deflate", "jpegxl"])
def test_a_cut_file_is_refused_as_cut(compression):
    noise = np.random.default_rng(2).integers(0, 2**16, (64, 64, 3), np.uint16)
    data = written(np.moveaxis(noise, -1, 0), photometric="rgb", planarconfig="separate",
                   compression=compression)  # fmt: skip
    assert refusal(data[: len(data) // 2]).code in ("truncated", "corrupt")
    assert refusal(data[:-100]).code in ("truncated", "corrupt")


def test_samples_beyond_the_limit_are_refused_before_they_are_decoded(monkeypatch):
    monkeypatch.setattr(tiff, "MAX_SAMPLE_BYTES", SIDE * SIDE * 8 - 1)
    refused = refusal(written(GREY.astype(np.float64)))
    assert (refused.code, "the limit is" in refused.detail) == ("too_large", True)


@pytest.mark.parametrize("compression", ["deflate", "lzma", "zstd", "lzw"])
def test_strips_do_not_grow_beyond_their_size(compression):
    """A file whose header claims one row, and whose strip holds thousands."""
    data = written(
        np.zeros((20_000, 1000), np.float64), compression=compression, rowsperstrip=20_000
    )
    for tag in (257, 278):  # height, rows of a strip
        entry = tag.to_bytes(2, "little") + b"\x04\0\x01\0\0\0" + (20_000).to_bytes(4, "little")
        short = tag.to_bytes(2, "little") + b"\x03\0\x01\0\0\0" + (20_000).to_bytes(4, "little")
        found = entry if entry in data else short
        data = data.replace(found, found[:8] + (1).to_bytes(4, "little"))
    tracemalloc_limit = 30e6
    import tracemalloc

    tracemalloc.start()
    decode(data, ONE)
    assert tracemalloc.get_traced_memory()[1] < tracemalloc_limit
    tracemalloc.stop()


def test_turned_bits_never_raise():
    random = np.random.default_rng(11)
    sources = [
        written(DEEP, photometric="rgb", compression="lzw"),
        written(np.moveaxis(DEEP, -1, 0), photometric="rgb", planarconfig="separate"),
        written(RGB, photometric="rgb", compression="webp", tile=(32, 32)),
        written(GREY.astype(np.float64)),
        pages((SMALL, {"subfiletype": 1, "subifds": 1}), (GREY.astype("f2"), {})),
    ]
    for source in sources:
        for _ in range(150):
            data = bytearray(source)
            for position in random.integers(0, random.choice([60, len(data)]), 3):
                data[position] ^= 1 << int(random.integers(8))
            assert isinstance(decode(bytes(data), ONE), Decoded | Rejected)


def test_without_imagecodecs_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(extra, "is_installed", lambda _extra: False)
    refused = refusal(written(GREY.astype(np.float64), compression="lzw"))
    assert refused.code == "unsupported_format"
    assert "sightstream[tiff]" in refused.detail
    np.testing.assert_array_equal(pixels(written(GREY.astype(np.float64)), ONE)[..., 0], GREY)
    np.testing.assert_array_equal(
        pixels(written(DEEP, photometric="rgb", compression="lzw", predictor=True)), RGB
    )


@pytest.mark.parametrize("dtype", ["u1", "u2", "u4"])
def test_a_directory_is_read_once(dtype, monkeypatch):
    read, one = [], tiff_pages._read_directory
    monkeypatch.setattr(
        tiff_pages, "_read_directory", lambda *place: read.append(place) or one(*place)
    )
    pixels(written(GREY.astype(dtype)))
    assert len(read) == 1


# Places that are called otherwise than by TIFF 6.0


def directory(data):
    """Where the entries of the first directory begin, and how many there are."""
    start = int.from_bytes(data[4:8], "little")
    return start + 2, int.from_bytes(data[start : start + 2], "little")


def entries_renamed(data, names):
    """The same entries under other numbers, in order again."""
    start, count = directory(data)
    entries = [data[start + 12 * n :][:12] for n in range(count)]
    numbers = [int.from_bytes(each[:2], "little") for each in entries]
    new = [
        names.get(number, number).to_bytes(2, "little") + each[2:]
        for number, each in zip(numbers, entries, strict=True)
    ]
    new.sort(key=lambda each: int.from_bytes(each[:2], "little"))
    return data[:start] + b"".join(new) + data[start + 12 * count :]


def old_jpeg(jpeg, bands, *, beside, side=SIDE):
    """A TIFF of compression 6 whose JPEGInterchangeFormat leads beside the JPEG."""
    numbers = {
        256: side, 257: side, 258: 8, 259: 6, 262: 6 if bands == 3 else 1, 273: 8, 277: bands,
        278: side, 279: len(jpeg), 513: 8 + beside, 514: len(jpeg),
    }  # fmt: skip
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in numbers.items())
    start = struct.pack("<2sHI", b"II", 42, 8 + len(jpeg))
    return start + jpeg + struct.pack("<H", len(numbers)) + entries + bytes(4)


@pytest.mark.parametrize("values", [GREY, RGB, DEEP], ids=["grey", "RGB", "16 bits"])
@pytest.mark.parametrize("tile", [(16, 16), (32, 48), (64, 64), (80, 96)])
def test_tiles_whose_places_are_called_strips_are_tiles(tile, values):
    data = entries_renamed(written(values, tile=tile), {324: 273, 325: 279})
    want, expected = (ONE, GREY) if values.ndim == 2 else (THREE, RGB)
    np.testing.assert_array_equal(pixels(data, want).squeeze(), expected)


def test_strips_with_the_size_of_tiles_beside_them_stay_strips():
    data = written(GREY, rowsperstrip=8, extratags=[(322, 3, 1, 32, True), (323, 3, 1, 64, True)])
    np.testing.assert_array_equal(pixels(data, ONE).squeeze(), GREY)


@pytest.mark.parametrize("values", [DEEP, DEEP[..., 0]], ids=["RGB", "grey"])
@pytest.mark.parametrize("tile", [None, (32, 48)])
def test_a_lossless_jpeg_of_16_bits_inside_is_exact(tile, values):
    options = {"compression": "jpeg", "compressionargs": {"lossless": True, "bitspersample": 16}}
    data = written(np.ascontiguousarray(values), tile=tile, **options)
    want, expected = (ONE, GREY) if values.ndim == 2 else (THREE, RGB)
    np.testing.assert_array_equal(pixels(data, want).squeeze(), expected)


@pytest.mark.parametrize("bands", [1, 3])
def test_an_old_jpeg_that_the_directory_misses_is_found_in_its_strip(bands):
    stream = BytesIO()
    values = np.ascontiguousarray(RGB if bands == 3 else GREY)
    Image.fromarray(values).save(stream, "JPEG", quality=98, subsampling=0)
    data = old_jpeg(stream.getvalue(), bands, beside=6)
    got = pixels(data, Preprocessing(SIDE, SIDE, bands)).squeeze()
    assert abs(got - values).mean() < 2
    larger = old_jpeg(stream.getvalue(), bands, beside=6, side=SIDE // 2)
    assert refusal(larger).code == "corrupt"


# Colours that Pillow converts


def inks(values):
    """CMYK as Pillow makes it of RGB, and back."""
    image = Image.fromarray(values).convert("CMYK")
    return np.asarray(image), np.asarray(image.convert("RGB"))


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("dtype", ["u1", "u2"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_cmyk_is_read(order, dtype, planar):
    cmyk, expected = inks(RGB)
    values = cmyk.astype(order + dtype) * (257 if dtype == "u2" else 1)
    values = np.moveaxis(values, -1, 0) if planar == "separate" else values
    options = {"photometric": "separated", "planarconfig": planar, "byteorder": order}
    np.testing.assert_array_equal(pixels(written(values, **options)), expected)


@pytest.mark.parametrize("dtype", ["u1", "u2"])
def test_cmyk_with_alpha_shows_white(dtype):
    cmyk, expected = inks(RGB)
    alpha = np.where(X < 20, 0, 255).astype(np.uint8)
    values = np.dstack([cmyk, alpha]).astype(dtype) * (257 if dtype == "u2" else 1)
    options = {
        "photometric": "separated",
        "planarconfig": "contig",
        "extrasamples": ("unassalpha",),
    }
    got = pixels(written(values, **options))
    np.testing.assert_array_equal(got, np.where(alpha[..., None] == 0, 255, expected))


def cielab(rgb):
    """The published formulas: sRGB to CIELab with the white of D50, stored in 8 bits."""
    part = rgb / 255
    linear = np.where(part <= 0.04045, part / 12.92, ((part + 0.055) / 1.055) ** 2.4)
    to_xyz = [[0.4361, 0.3851, 0.1431], [0.2225, 0.7169, 0.0606], [0.0139, 0.0971, 0.7141]]
    xyz = linear @ np.array(to_xyz).T / (0.9642, 1, 0.8249)
    x, y, z = np.moveaxis(
        np.where(xyz > 216 / 24389, np.cbrt(xyz), xyz * 841 / 108 + 4 / 29), -1, 0
    )
    lab = np.stack([(116 * y - 16) * 2.55, 500 * (x - y), 200 * (y - z)], axis=-1)
    return (lab.round().astype(int) & 255).astype(np.uint8)


@pytest.mark.parametrize("dtype", ["u1", "u2"])
@pytest.mark.parametrize("with_alpha", [False, True])
def test_cielab_is_read(with_alpha, dtype):
    dull = (RGB // 3 + 80).astype(np.uint8)
    values, expected, options = cielab(dull), dull.astype(int), {}
    if with_alpha:
        values = np.dstack([values, np.where(X < 20, 0, 255).astype(np.uint8)])
        expected[:, :20] = 255
        options = {"extrasamples": ("unassalpha",)}
    values = values.astype(dtype) << (8 if dtype == "u2" else 0)
    data = written(values, photometric="cielab", planarconfig="contig", **options)
    assert abs(pixels(data) - expected).max() <= 6


def test_other_inks_than_cmyk_are_refused_by_name():
    values = np.moveaxis(inks(RGB)[0].astype(np.uint16) * 257, -1, 0)
    options = {"photometric": "separated", "planarconfig": "separate"}
    assert pixels(written(values, **options)).shape == (SIDE, SIDE, 3)
    refused = refusal(written(values, extratags=[(332, 3, 1, 2, True)], **options))
    assert (refused.code, "16-bit CMYK" in refused.detail) == ("unsupported_format", True)


@pytest.mark.parametrize("compression", [None, "lzw"])
@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_ycbcr_is_read(planar, compression):
    image = Image.fromarray(RGB).convert("YCbCr")
    values = np.asarray(image)
    values = np.moveaxis(values, -1, 0) if planar == "separate" else values
    options = {"photometric": "ycbcr", "planarconfig": planar, "compression": compression}
    data = written(values, subsampling=(1, 1), **options)
    assert abs(pixels(data) - np.asarray(image.convert("RGB"))).max() <= 2


def test_planes_of_fewer_colours_are_refused_by_name():
    values = np.moveaxis(np.asarray(Image.fromarray(RGB).convert("YCbCr")), -1, 0)
    data = written(values, photometric="ycbcr", planarconfig="separate", subsampling=(1, 1))
    entry = struct.pack("<HHI2H", 530, 3, 2, 1, 1)
    assert data.count(entry) == 1
    refused = refusal(data.replace(entry, struct.pack("<HHI2H", 530, 3, 2, 2, 2)))
    assert (refused.code, "YCbCr" in refused.detail) == ("unsupported_format", True)


@pytest.mark.parametrize("factor", [1, 257, 256])
@pytest.mark.parametrize("compression", [None, "lzw", "zstd"])
def test_a_palette_of_8_or_16_bits_has_its_colours(compression, factor):
    table = np.stack([np.arange(256), np.arange(256)[::-1], np.arange(256) // 2])
    colours = (table * factor).astype(np.uint16)
    data = written(GREY, photometric="palette", colormap=colours, compression=compression)
    np.testing.assert_array_equal(pixels(data), np.moveaxis(table[:, GREY], 0, -1))


@pytest.mark.parametrize("predictor", [2, 3])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compression", ["lzw", "zlib"])
@pytest.mark.parametrize("dtype", ["u1", "u2", "i2", "u4", "i4", "f2", "f4", "f8"])
def test_predictors_of_both_byte_orders_are_exact(dtype, compression, order, predictor):
    if predictor == 3 and dtype[0] != "f":
        pytest.skip("of floats alone")
    options = {"compression": compression, "predictor": predictor, "byteorder": order}
    for values, want in ((GREY, ONE), (RGB, THREE)):
        kind = "rgb" if want is THREE else "minisblack"
        try:
            data = written(values.astype(dtype), photometric=kind, **options)
        except (ValueError, NotImplementedError, RuntimeError):
            continue  # what the writer does not know
        np.testing.assert_array_equal(pixels(data, want).squeeze(), values)


EXTRAS = [
    ("minisblack", ("unassalpha",)), ("minisblack", ("assocalpha",)), ("minisblack", (0,)),
    ("minisblack", (0, 0)), ("minisblack", (2, 0)), ("minisblack", (1, 0)), ("miniswhite", (2,)),
    ("rgb", (0,)), ("rgb", (1,)), ("rgb", (2,)), ("rgb", (2, 0)), ("rgb", (1, 0)), ("rgb", (0, 0)),
]  # fmt: skip


@pytest.mark.parametrize("compression", [None, "lzw", "zlib", "packbits"])
@pytest.mark.parametrize(("photometric", "extra"), EXTRAS)
def test_planes_are_what_samples_side_by_side_are(photometric, extra, compression):
    bands = [RGB // 2] if photometric == "rgb" else [GREY // 2]
    bands += [np.full((SIDE, SIDE), 200 - 10 * n, np.uint8) for n, _ in enumerate(extra)]
    values, seen = np.dstack(bands), []
    for stored in (values, values.astype(np.uint16) * 257):
        for planar in ("contig", "separate"):
            turned = np.moveaxis(stored, -1, 0) if planar == "separate" else stored
            options = {"extrasamples": extra, "compression": compression, "planarconfig": planar}
            data = written(np.ascontiguousarray(turned), photometric=photometric, **options)
            seen.append(pixels(data, Preprocessing(SIDE, SIDE, 3, levels="full")))
    for other in seen[1:]:
        assert abs(seen[0] - other).max() <= 1
