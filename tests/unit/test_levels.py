"""levels: equal values give equal pixels, whatever holds them, and no step is a cliff."""

import struct
import zlib
from io import BytesIO

import numpy as np
import pytest
import tifffile
from PIL import Image

from sightstream.images.decode import Preprocessing, decode
from sightstream.images.levels import Samples, to_8_bit

SIDE = 64
SAME = Preprocessing(SIDE, SIDE, 1)
FULL = Preprocessing(SIDE, SIDE, 1, levels="full")
RAMP = np.arange(SIDE * SIDE).reshape(SIDE, SIDE)  # 0 to 4095


def pixels(data, want=SAME):
    return decode(data, want).pixels[..., 0].astype(int)


def tiff(values, **options):
    stream = BytesIO()
    tifffile.imwrite(stream, values, **{"photometric": "minisblack", **options})
    return stream.getvalue()


def png(values, *chunks):
    stream = BytesIO()
    Image.fromarray(values).save(stream, "PNG")
    data = stream.getvalue()
    for kind, body in chunks:
        parts = struct.pack(">I", len(body)), kind, body
        data = data[:33] + b"".join(parts) + struct.pack(">I", zlib.crc32(kind + body)) + data[33:]
    return data


CONTAINERS = ["u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("container", CONTAINERS)
def test_equal_values_give_equal_pixels_whatever_holds_them(container, order):
    data = tiff(RAMP.astype(order + container), byteorder=order)
    np.testing.assert_array_equal(pixels(data), (RAMP / 4095 * 255 + 0.5).astype(int))


def test_a_png_gives_the_same_pixels_as_a_tiff():
    values = RAMP.astype(np.uint16)
    np.testing.assert_array_equal(pixels(png(values)), pixels(tiff(values)))


@pytest.mark.parametrize("container", CONTAINERS)
def test_values_of_8_bits_stay_as_they_are_in_a_wider_integer(container):
    values = (RAMP // 16).astype(container)
    assert (pixels(tiff(values)) == values).all()
    if container[0] != "f":
        np.testing.assert_array_equal(pixels(tiff(values // 2)), values // 2)


@pytest.mark.parametrize("container", ["u2", "i4", "f4", "f8"])
@pytest.mark.parametrize("top", [1.0, 255.0, 1023.0, 4095.0, 64_000.0])
def test_a_little_more_light_changes_little(container, top):
    scaled = RAMP / 4095 * top
    over = scaled.copy()
    over[-1, -1] *= 1.01
    first, second = (pixels(tiff(each.astype(container))) for each in (scaled, over))
    assert abs(first - second).max() <= 4


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_decides_nothing(value):
    values = RAMP.astype(np.float32)
    values[0, 1] = value
    got = pixels(tiff(values))
    assert got[0, 1] == (255 if value == np.inf else 0)
    got[0, 1] = 0
    np.testing.assert_array_equal(got, pixels(tiff(RAMP.astype(np.float32))))


def test_the_widest_floats_are_stretched():
    values = (RAMP / 4095 - 0.5) * 1.7e308 * 2
    assert abs(pixels(tiff(values)) - RAMP / 4095 * 255).max() <= 1


@pytest.mark.parametrize("container", ["i1", "i2", "i4", "f4"])
def test_the_smallest_of_negative_values_is_black(container):
    values = (RAMP // 16 - 128).astype(container)
    np.testing.assert_array_equal(pixels(tiff(values)), RAMP // 16)


@pytest.mark.parametrize("container", ["u1", "u2", "u4", "f4"])
def test_where_0_is_white_the_picture_is_no_negative(container):
    top = 65_535 if container == "u2" else 255
    values = (top - RAMP // 16 * (top // 255)).astype(container)
    np.testing.assert_array_equal(pixels(tiff(values, photometric="miniswhite")), RAMP // 16)


@pytest.mark.parametrize("container", ["u2", "u4", "f4"])
def test_white_is_what_the_file_says(container):
    values = (RAMP // 2).astype(container)
    white = 4095.0 if container == "f4" else 4095
    code = 11 if container == "f4" else 3
    data = tiff(values, extratags=[(341, code, 1, white, True)])
    np.testing.assert_array_equal(pixels(data), (RAMP // 2 / 4095 * 255 + 0.5).astype(int))


@pytest.mark.parametrize("scale", [1, 16])
def test_significant_bits_of_a_png_are_at_least_its_white(scale):
    """Writers store 12 bits as they are, or as the specification has it, in the upper ones."""
    values = (RAMP * scale).astype(np.uint16)
    expected = (RAMP / 4095 * 255 + 0.5).astype(int)
    np.testing.assert_array_equal(pixels(png(values, (b"sBIT", b"\x0c"))), expected)
    dark = pixels(png((RAMP // 2).astype(np.uint16), (b"sBIT", b"\x0c")))
    np.testing.assert_array_equal(dark, (RAMP // 2 / 4095 * 255 + 0.5).astype(int))


def test_12_packed_bits_are_white_at_4095():
    rows = bytes([0xFF, 0xF0, 0x80]) * SIDE  # the values 0xFFF and 0x080, two in three bytes
    tags = {256: 2 * SIDE, 257: 1, 258: 12, 259: 1, 262: 1, 273: 134, 277: 1, 278: 1}
    tags[279] = len(rows)
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    header = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)
    got = decode(header.ljust(134, b"\0") + rows, Preprocessing(1, 2 * SIDE, channels=1))
    assert got.pixels[0, :2, 0].tolist() == [0xFF, 0x08]


@pytest.mark.parametrize(
    ("container", "low", "high"),
    [("u2", 0, 65_535), ("i2", -32_768, 32_767), ("u4", 0, 2**32 - 1), ("f4", 0, 1)],
)
def test_full_is_the_range_of_the_type(container, low, high):
    values = (low + (high - low) * (RAMP / 8190)).astype(container)
    assert abs(pixels(tiff(values), FULL) - RAMP / 8190 * 255).max() <= 1
    if container == "u2":
        assert abs(pixels(png(values), FULL) - RAMP / 8190 * 255).max() <= 1


def test_8_bits_are_the_same_at_all_levels():
    values = (RAMP // 32).astype(np.uint8)
    for levels in ("values", "full"):
        assert (np.asarray(to_8_bit(Samples(values), levels)) == values).all()


@pytest.mark.parametrize("container", ["u2", "f4"])
@pytest.mark.parametrize("opaque", [4095, 65_535])
def test_alpha_is_opaque_at_the_white_of_the_colours_or_of_its_type(container, opaque):
    values = RAMP.astype(container)
    if container == "f4":
        values, opaque = values / 4095, 1
    alpha = np.full_like(values, opaque)
    alpha[0] = 0
    got = np.asarray(to_8_bit(Samples(values, alpha), "values"))
    assert abs(got[1:] - RAMP[1:] / 4095 * 255).max() <= 1
    assert (got[0] == 255).all()


def with_nodata(values, nodata, **options):
    return tiff(values, extratags=[(42113, "s", 0, nodata, True)], **options)


NODATA = [
    ("f4", "-3.4028234663852886e+38"), ("f4", "3.4028234663852886e+38"), ("f4", "-3.40282e+38"),
    ("f4", "-9999"), ("f8", "-1.7976931348623157e+308"), ("f8", "1e+20"), ("i2", "-32768"),
    ("i2", "-9999.0"), ("u2", "65535"), ("i4", "-2147483648"), ("u4", "4294967295"),
    ("i8", "-9223372036854775808"), ("f4", "inf"), ("f4", "nan"),
]  # fmt: skip


@pytest.mark.parametrize(("dtype", "nodata"), NODATA)
def test_what_was_never_measured_is_black_and_moves_no_level(dtype, nodata):
    values = RAMP.astype(dtype)
    whole = pixels(tiff(values))
    values[:9] = float(nodata) if dtype[0] == "f" else int(nodata.removesuffix(".0"))
    got = pixels(with_nodata(values, nodata))
    assert (got[:9] == 0).all()
    np.testing.assert_array_equal(got[9:], whole[9:])
    turned = pixels(with_nodata(values, nodata, photometric="miniswhite"))
    assert (turned[:9] == 0).all()
    np.testing.assert_array_equal(turned[9:], 255 - whole[9:])


@pytest.mark.parametrize("dtype", ["u1", "u2", "f4"])
def test_a_colour_is_missing_where_all_its_bands_are(dtype):
    values = np.dstack([RAMP % 200, RAMP % 190, RAMP % 180]).astype(dtype)
    values[0], values[1, :, 0], values[2, 0] = 255, 255, 250
    got = decode(with_nodata(values, "255", photometric="rgb"), Preprocessing(SIDE, SIDE)).pixels
    expected = values.copy()
    expected[0] = 0
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("dtype", ["u1", "u2", "f4"])
@pytest.mark.parametrize("nodata", ["", "none", "-1", "0.5", "99999", "1e999", "9" * 5000, "0"])
def test_a_value_that_stands_nowhere_changes_nothing(nodata, dtype):
    values = (RAMP % 256).astype(dtype)
    np.testing.assert_array_equal(pixels(with_nodata(values, nodata)), pixels(tiff(values)))
