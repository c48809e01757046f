"""imaging: whatever the bytes are, the answer is the right pixels or a rejection that says why."""

import csv
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from PIL import Image, ImageOps, PngImagePlugin

from sightstream.images import formats
from sightstream.images.decode import (
    _TRANSPOSE,
    DEFAULT_LIMITS,
    Decoded,
    ErrorCode,
    Limits,
    Preprocessing,
    Rejected,
    _opaque,
    _resize,
    decode,
)
from sightstream.images.store import read

HEIGHT, WIDTH = 40, 60
SAME = Preprocessing(HEIGHT, WIDTH)
GREY = Preprocessing(HEIGHT, WIDTH, channels=1)
BAD_IMAGES = Path(__file__).parents[2].parent / "shared/data/badimages"


def gradient(height=HEIGHT, width=WIDTH):
    """A smooth picture that differs from all its rotations and mirror images."""
    y, x = np.mgrid[0:height, 0:width]
    bands = (x * 255 // (width - 1), y * 255 // (height - 1), (x + y) * 90 // (height + width))
    return np.stack(bands, axis=-1).astype(np.uint8)


PICTURE = Image.fromarray(gradient())


def encoded(image, format, **options):
    stream = BytesIO()
    image.save(stream, format, **options)
    return stream.getvalue()


def pixels(data, preprocessing=SAME):
    result = decode(data, preprocessing)
    assert isinstance(result, Decoded), result
    return result.pixels.astype(int)


def rejection(data, preprocessing=SAME, limits=DEFAULT_LIMITS):
    result = decode(data, preprocessing, limits)
    assert isinstance(result, Rejected), result
    return result


def difference(a, b):
    return np.abs(np.asarray(a, int) - np.asarray(b, int)).mean()


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(*chunks):
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*c) for c in chunks) + chunk(b"IEND", b"")


def png_header(width, height, depth=8, colour=0):
    return b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)


def with_orientation(image, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return {"image": image, "exif": exif.tobytes()}


# Formats


@pytest.mark.parametrize("format", ["PNG", "BMP", "TIFF"])
def test_a_lossless_format_gives_exactly_its_pixels(format):
    result = decode(encoded(PICTURE, format), SAME)
    assert (result.format, result.width, result.height) == (format, WIDTH, HEIGHT)
    np.testing.assert_array_equal(result.pixels, gradient())


@pytest.mark.parametrize(
    ("format", "options"),
    [
        ("JPEG", {"quality": 95}),
        ("JPEG", {"quality": 95, "progressive": True}),
        ("WEBP", {"quality": 95}),
        ("GIF", {}),
        ("TIFF", {"compression": "jpeg", "quality": 95}),
    ],
)
def test_a_lossy_format_gives_nearly_its_pixels(format, options):
    result = decode(encoded(PICTURE, format, **options), SAME)
    assert result.format == format
    assert difference(result.pixels, gradient()) < 6


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits"])
def test_tiff_compressions_give_exactly_its_pixels(compression):
    np.testing.assert_array_equal(
        pixels(encoded(PICTURE, "TIFF", compression=compression)), gradient()
    )


def test_lossless_webp_gives_exactly_its_pixels():
    np.testing.assert_array_equal(pixels(encoded(PICTURE, "WEBP", lossless=True)), gradient())


def test_a_phone_photo_with_a_second_picture_is_a_jpeg():
    other = Image.new("RGB", PICTURE.size, "red")
    data = encoded(PICTURE, "MPO", save_all=True, append_images=[other], quality=95)
    assert Image.open(BytesIO(data)).format == "MPO"
    assert decode(data, SAME).format == "JPEG"
    assert difference(pixels(data), gradient()) < 6


@pytest.mark.parametrize("format", ["PPM", "ICO", "TGA", "PCX", "JPEG2000", "EPS", "DIB", "SGI"])
def test_a_format_that_pillow_knows_and_we_do_not_allow_is_unsupported(format):
    assert rejection(encoded(PICTURE, format)).code == "unsupported_format"


@pytest.mark.parametrize(
    "data",
    [b"<!DOCTYPE html><html>", b"PK\x03\x04rest", b"8BPS\x00\x01", b"\0" * 4096, b"{}", b"\xff"],
)
def test_what_is_no_image_is_unsupported(data):
    assert rejection(data).code == "unsupported_format"


def test_the_content_decides_and_not_the_suffix(tmp_path):
    path = tmp_path / "picture.jpg"
    path.write_bytes(encoded(PICTURE, "PNG"))
    assert decode(read(path), SAME).format == "PNG"


# The result


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_the_result_is_contiguous_uint8_of_the_shape_asked_for(mode, channels):
    data = encoded(PICTURE.convert(mode), "PNG")
    result = decode(data, Preprocessing(7, 11, channels=channels)).pixels
    assert result.shape == (7, 11, channels)
    assert result.dtype == np.uint8
    assert result.flags.c_contiguous


def test_the_same_bytes_give_the_same_pixels_on_every_thread():
    data = encoded(Image.fromarray(gradient(400, 600)), "JPEG")
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda _: decode(data, SAME).pixels.tobytes(), range(200)))
    assert len(set(results)) == 1


@pytest.mark.parametrize("resize", ["box", "bilinear", "bicubic", "lanczos"])
def test_each_filter_is_pillows(resize):
    picture = Image.fromarray(gradient(100, 130))
    expected = picture.resize((WIDTH, HEIGHT), Image.Resampling[resize.upper()])
    got = pixels(encoded(picture, "PNG"), Preprocessing(HEIGHT, WIDTH, resize=resize))
    np.testing.assert_array_equal(got, expected)


# Modes


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "I;16"])
def test_png_modes_look_like_the_picture(mode):
    image = PICTURE.convert("L" if mode == "I;16" else mode)
    if mode == "I;16":
        values = np.asarray(image).astype(np.uint16) * 257
        values[0, 0] = 65_535
        image = Image.fromarray(values)
    expected = PICTURE.convert(mode).convert("RGB") if mode != "I;16" else PICTURE.convert("L")
    assert difference(pixels(encoded(image, "PNG")), expected.convert("RGB")) < 1


@pytest.mark.parametrize(
    "mode", ["RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "LAB", "LA", "L", "P", "1"]
)
def test_tiff_modes_look_like_the_picture(mode):
    image = PICTURE.convert(mode)
    # Pillow 12 cannot read the uncompressed YCbCr that it writes.
    options = {"compression": "tiff_lzw"} if mode == "YCbCr" else {}
    assert difference(pixels(encoded(image, "TIFF", **options)), image.convert("RGB")) < 3


@pytest.mark.parametrize("mode", ["YCbCr", "HSV", "LAB", "PA", "RGBa", "CMYK", "RGBX"])
def test_any_mode_of_pillow_becomes_8_bit_grey_or_colour(mode):
    image = to_mode(PICTURE, mode)
    result = _opaque(image, "values")
    assert result.mode in ("L", "RGB")
    assert difference(result.convert("RGB"), PICTURE) < (35 if mode == "PA" else 3)


def to_mode(image, mode):
    """Convert through the modes that Pillow needs on the way."""
    if mode == "PA":
        image = image.convert("P", palette=Image.Palette.WEB, dither=Image.Dither.NONE)
    return (image.convert("RGBA") if mode == "RGBa" else image).convert(mode)


def test_an_adobe_cmyk_jpeg_is_not_a_negative():
    data = encoded(PICTURE.convert("CMYK"), "JPEG", quality=95)
    assert b"Adobe" in data
    assert difference(pixels(data), gradient()) < 6


def test_a_grey_jpeg_gives_three_equal_channels():
    result = pixels(encoded(PICTURE.convert("L"), "JPEG", quality=95))
    assert (result[..., 0] == result[..., 1]).all()
    assert (result[..., 0] == result[..., 2]).all()


@pytest.mark.parametrize(("format", "tolerance"), [("PNG", 0.01), ("JPEG", 2)])
def test_one_channel_is_the_luma(format, tolerance):
    data = encoded(PICTURE, format)
    expected = np.asarray(PICTURE.convert("L"))[..., None]
    assert difference(pixels(data, GREY), expected) <= tolerance


# Depth: see test_levels.py and test_tiff.py


def test_a_float_image_of_nothing_is_black():
    for value in (np.nan, 0.0):
        values = np.full((HEIGHT, WIDTH), value, np.float32)
        assert not pixels(encoded(Image.fromarray(values), "TIFF")).any()


# Transparency


@pytest.mark.parametrize("format", ["PNG", "WEBP", "TIFF"])
def test_alpha_is_flattened_onto_white(format):
    image = PICTURE.convert("RGBA")
    image.putalpha(Image.fromarray(np.full((HEIGHT, WIDTH), 128, np.uint8)))
    options = {"lossless": True} if format == "WEBP" else {}
    expected = gradient() * (128 / 255) + 255 * (127 / 255)
    assert np.abs(pixels(encoded(image, format, **options)) - expected).max() <= 1


def test_grey_with_alpha_is_flattened_onto_white():
    image = Image.new("LA", (WIDTH, HEIGHT), (0, 0))
    assert (pixels(encoded(image, "PNG"), GREY) == 255).all()


@pytest.mark.parametrize("transparency", [0, bytes([0, 255])])
def test_a_transparent_palette_entry_is_white(transparency):
    image = Image.new("P", (WIDTH, HEIGHT))
    image.putpalette([200, 0, 0, 0, 0, 200])
    image.paste(1, (0, 0, 10, HEIGHT))
    result = pixels(encoded(image, "PNG", transparency=transparency))
    assert result[0, 0].tolist() == [0, 0, 200]
    assert result[0, -1].tolist() == [255, 255, 255]


def test_a_transparent_gif_is_white():
    image = Image.new("P", (WIDTH, HEIGHT))
    image.putpalette([200, 0, 0, 0, 0, 200])
    image.paste(1, (0, 0, 10, HEIGHT))
    assert pixels(encoded(image, "GIF", transparency=0))[0, -1].tolist() == [255, 255, 255]


@pytest.mark.parametrize(
    ("depth", "colour", "row", "key"),
    [
        (1, 0, b"\x40", b"\0\0"),
        (2, 0, b"\x90", b"\0\2"),
        (4, 0, b"\x7f", b"\0\7"),
        (8, 0, b"\x80\x10", b"\0\x80"),
        (16, 0, b"\x80\x01\x80\x02", b"\x80\x01"),
        (8, 2, b"\1\2\3\4\5\6", b"\0\1\0\2\0\3"),
        (16, 2, b"\x10\0\x20\0\x30\0\x40\0\x50\0\x60\0", b"\x10\0\x20\0\x30\0"),
    ],
)
def test_the_transparent_colour_of_a_png_is_white_at_every_depth(depth, colour, row, key):
    body = b"IDAT", zlib.compress(b"\0" + row)
    left = {1: 0}.get(depth, 0)
    data = png(png_header(2, 1, depth, colour), (b"tRNS", key), body)
    result = pixels(data, Preprocessing(1, 2))
    assert result[0, left].tolist() == [255, 255, 255]
    if depth > 1:
        assert (
            result[0, 1].tolist()
            == pixels(png(png_header(2, 1, depth, colour), body), Preprocessing(1, 2))[
                0, 1
            ].tolist()
        )


# Animations


@pytest.mark.parametrize(
    ("format", "tolerance"), [("GIF", 6), ("WEBP", 6), ("PNG", 0), ("TIFF", 0)]
)
def test_the_first_frame_of_several_is_the_picture(format, tolerance):
    others = [Image.new("RGB", PICTURE.size, colour) for colour in ("red", "blue")]
    data = encoded(PICTURE, format, save_all=True, append_images=others)
    assert Image.open(BytesIO(data)).n_frames == 3
    assert difference(pixels(data), gradient()) <= tolerance


# Orientation


@pytest.mark.parametrize("format", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_gives_the_upright_picture_exactly(format, orientation):
    stored = stored_as(PICTURE, orientation)
    options = {"lossless": True} if format == "WEBP" else {}
    data = encoded(**with_orientation(stored, orientation), format=format, **options)
    result = decode(data, SAME)
    assert (result.width, result.height) == (WIDTH, HEIGHT)
    np.testing.assert_array_equal(result.pixels, gradient())


@pytest.mark.parametrize("aspect", ["stretch", "crop", "pad"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_of_a_jpeg_decoded_at_a_fraction_gives_the_upright_picture(
    orientation, aspect
):
    picture = Image.fromarray(gradient(403, 605))
    small = Preprocessing(29, 23, aspect=aspect)
    upright = pixels(encoded(picture, "JPEG", quality=95), small)
    stored = with_orientation(stored_as(picture, orientation), orientation)
    data = encoded(**stored, format="JPEG", quality=95)
    result = decode(data, small)
    assert (result.width, result.height) == (605, 403)
    assert np.abs(result.pixels - upright).max() <= 8
    assert difference(result.pixels, upright) < 1


@pytest.mark.parametrize(
    "exif", [b"Exif\0\0", b"Exif\0\0garbage", b"Exif\0\0II*\0\xff\xff\xff\xff"]
)
def test_broken_exif_does_not_cost_the_picture(exif):
    assert difference(pixels(encoded(PICTURE, "JPEG", quality=95, exif=exif)), gradient()) < 6


@pytest.mark.parametrize("orientation", [0, 9, 65_535])
def test_an_orientation_that_does_not_exist_is_upright(orientation):
    data = encoded(**with_orientation(PICTURE, orientation), format="PNG")
    np.testing.assert_array_equal(pixels(data), gradient())


def stored_as(picture, orientation):
    """What a camera held that way stores: the picture with the inverse turn."""
    inverse = {6: 8, 8: 6}.get(orientation, orientation)
    method = _TRANSPOSE.get(inverse)
    return picture if method is None else picture.transpose(method)


# Aspect


def test_stretch_keeps_all_of_the_picture():
    data = encoded(Image.fromarray(gradient(100, 200)), "PNG")
    result = pixels(data, Preprocessing(20, 20))
    assert difference(result, Image.fromarray(gradient(100, 200)).resize((20, 20), 2)) == 0


@pytest.mark.parametrize("size", [(100, 40), (40, 100), (33, 77), (20, 21)])
def test_crop_keeps_the_centre(size):
    picture = Image.fromarray(gradient(*size))
    result = pixels(encoded(picture, "PNG"), Preprocessing(20, 30, aspect="crop"))
    expected = ImageOps.fit(picture, (30, 20), Image.Resampling.BILINEAR)
    assert np.abs(result - expected).max() <= 1


def test_crop_of_a_jpeg_decoded_at_a_fraction_keeps_the_centre():
    image = Image.new("RGB", (1000, 400), "red")
    image.paste("blue", (280, 0, 720, 400))
    data = encoded(image, "JPEG", quality=95, subsampling=0)
    result = pixels(data, Preprocessing(20, 20, aspect="crop"))
    assert difference(result, np.full((20, 20, 3), (0, 0, 255))) < 3


@pytest.mark.parametrize("share", [0.875, 0.5, 1.0])
@pytest.mark.parametrize("size", [(256, 256), (300, 512), (641, 480)])
def test_a_crop_is_what_resizing_the_short_side_and_cutting_the_centre_gives(size, share):
    picture = Image.fromarray(gradient(*size))
    result = pixels(
        encoded(picture, "PNG"), Preprocessing(112, 112, aspect="crop", crop=share)
    )  # fmt: skip
    short = round(112 / share)
    scale = short / min(picture.size)
    whole = picture.resize([round(side * scale) for side in picture.size], 2)
    left, top = ((side - 112) / 2 for side in whole.size)
    expected = whole.crop((round(left), round(top), round(left) + 112, round(top) + 112))
    assert np.abs(result.astype(int) - np.asarray(expected)).max() <= 4


def test_a_jpeg_is_never_decoded_below_what_a_crop_needs():
    image = Image.open(BytesIO(encoded(Image.new("RGB", (800, 800)), "JPEG")))
    _resize(image, Preprocessing(100, 100, crop=0.5), turned=False)
    assert image.width >= 200


@pytest.mark.parametrize("share", [0, -0.1, 1.01, True, float("nan")])
def test_a_crop_is_a_share(share):
    with pytest.raises(ValueError, match="crop must be above 0"):
        Preprocessing(8, 8, crop=share)


def test_pad_adds_black_bars_on_both_sides():
    image = Image.new("RGB", (100, 50), "white")
    result = pixels(encoded(image, "PNG"), Preprocessing(20, 20, aspect="pad"))
    assert not result[:5].any()
    assert not result[15:].any()
    assert (result[5:15] == 255).all()


@pytest.mark.parametrize("aspect", ["stretch", "crop", "pad"])
@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1), (7, 3), (24, 24), (23, 997)])
@pytest.mark.parametrize("format", ["PNG", "JPEG"])
def test_any_shape_of_picture_fits(format, size, aspect):
    data = encoded(Image.new("RGB", size, "white"), format)
    result = decode(data, Preprocessing(24, 24, aspect=aspect))
    assert result.pixels.shape == (24, 24, 3)
    assert (result.width, result.height) == size


# JPEG at a fraction


@pytest.mark.parametrize("aspect", ["stretch", "crop", "pad"])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_jpeg_decoded_at_a_fraction_is_nearly_the_full_decode(aspect, channels):
    picture = Image.fromarray(gradient(801, 1203))
    small = Preprocessing(50, 40, channels=channels, aspect=aspect)
    jpeg, whole = encoded(picture, "JPEG", quality=95), encoded(picture, "PNG")
    assert difference(pixels(jpeg, small), pixels(whole, small)) < 1.5


@pytest.mark.parametrize("aspect", ["stretch", "crop", "pad"])
@pytest.mark.parametrize("turned", [False, True])
def test_a_jpeg_is_never_decoded_below_the_target(aspect, turned):
    image = Image.open(BytesIO(encoded(Image.new("RGB", (800, 400)), "JPEG")))
    want = Preprocessing(100, 50, aspect=aspect)
    size = _resize(image, want, turned=turned).size
    assert image.width >= size[0]
    assert image.height >= size[1]


# Limits


def test_no_bytes_are_empty():
    assert rejection(b"").code == "empty"


def test_more_bytes_than_the_limit_are_too_large():
    refused = rejection(encoded(PICTURE, "BMP"), limits=Limits(max_bytes=1000))
    assert (refused.code, "the limit is 1,000" in refused.detail) == ("too_large", True)


def test_more_pixels_than_the_limit_are_named():
    data = encoded(PICTURE, "PNG")
    refused = rejection(data, limits=Limits(max_pixels=HEIGHT * WIDTH - 1))
    assert refused.code == "too_many_pixels"
    assert (refused.format, refused.width, refused.height) == ("PNG", WIDTH, HEIGHT)
    assert isinstance(decode(data, SAME, Limits(max_pixels=HEIGHT * WIDTH)), Decoded)


@pytest.mark.parametrize("side", [11_000, 12_000, 15_000, 20_000, 60_000])
def test_a_header_that_claims_too_much_is_refused_before_decoding(side):
    refused = rejection(png(png_header(side, side), (b"IDAT", zlib.compress(b"\0"))))
    assert refused.code == "too_many_pixels"
    assert f"{side * side / 1e6:,.1f} megapixels; the limit is 120." in refused.detail


NO_SIZES = {
    # A width that is negative, with masks that Pillow does not know.
    "BMP": b"BM" + struct.pack("<IHHI", 0, 0, 0, 138)
    + struct.pack("<IiiHHIIiiII4I", 124, -7, 5, 1, 16, 3, 0, 0, 0, 0, 0, 1, 2, 4, 8).ljust(124),
    # A width that is text: one letter; with whole numbers of 32 bits, which Pillow does not read.
    "TIFF": b"II*\0" + struct.pack("<LH", 8, 4) + struct.pack("<HHL4s", 256, 7, 1, b"d")
    + struct.pack("<HHLL", 257, 4, 1, 40) + struct.pack("<HHLL", 258, 3, 1, 32)
    + struct.pack("<HHLL", 262, 3, 1, 1) + struct.pack("<L", 0),
}  # fmt: skip


@pytest.mark.parametrize("name", NO_SIZES)
def test_a_header_whose_size_is_none_is_refused_and_its_size_not_shown(name):
    found = decode(NO_SIZES[name], Preprocessing(8, 8))
    assert (found.code, found.width, found.height) == ("corrupt", None, None)
    assert found.detail == f"The header of the {name} gives it no size."


def test_a_side_that_no_row_can_hold_is_not_shown():
    tags = [(256, 4, 1, 4_294_967_169), (257, 4, 1, 5), (258, 3, 1, 8), (262, 3, 1, 1),
            (273, 4, 1, 8), (278, 4, 1, 5), (279, 4, 1, 4)]  # fmt: skip
    entries = b"".join(struct.pack("<HHLL", *tag) for tag in tags)
    data = b"II*\0" + struct.pack("<LH", 8, len(tags)) + entries + struct.pack("<L", 0)
    refused = rejection(data)
    assert (refused.code, refused.format) == ("too_many_pixels", "TIFF")
    assert (refused.width, refused.height) == (None, None)


@pytest.mark.parametrize("size", [(0, 5), (5, 0)])
def test_a_picture_of_no_height_or_width_is_corrupt(monkeypatch, size):
    made = formats.Format("NOUGHT", b"", lambda _: Image.new("RGB", size), lambda _: False)
    monkeypatch.setattr(formats, "find", lambda _: made)
    found = decode(b"anything", Preprocessing(8, 8))
    assert isinstance(found, Rejected)
    assert (found.code, found.detail) == ("corrupt", "A side of the NOUGHT has no pixels.")


def test_a_jpeg_is_limited_by_its_full_size_and_not_by_the_fraction():
    data = encoded(Image.new("L", (12_000, 10_100)), "JPEG")
    assert rejection(data, Preprocessing(24, 24)).code == "too_many_pixels"


def test_a_gif_frame_larger_than_its_screen_is_refused():
    screen = b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0, 0, 0)
    frame = b"," + struct.pack("<HHHHB", 0, 0, 60_000, 50_000, 0) + b"\x08\x01\x00\x00;"
    for extensions in (b"", b"!\xf9\x04\x08\0\0\0\0" + b"!\xfe\x02hi\x01!\0"):
        refused = rejection(screen + extensions + frame)
        assert refused.code == "too_many_pixels"
        assert refused.detail == "3,000.0 megapixels; the limit is 120."
        assert (refused.width, refused.height) == (60_000, 50_000)


def test_a_webp_canvas_larger_than_the_limit_is_refused():
    data = bytearray(
        encoded(PICTURE, "WEBP", save_all=True, append_images=[Image.new("RGB", PICTURE.size)])
    )
    data[24:30] = b"\xff\x3f\x00" * 2
    assert rejection(bytes(data)).code in ("too_many_pixels", "corrupt")


@pytest.mark.parametrize("kind", [b"zTXt", b"iCCP"])
def test_a_text_bomb_is_too_large(kind):
    bomb = b"key\0\0" + zlib.compress(bytes(PngImagePlugin.MAX_TEXT_CHUNK + 1))
    data = png(png_header(1, 1), (kind, bomb), (b"IDAT", zlib.compress(b"\0\0")))
    assert rejection(data).code == "too_large"


def test_many_text_chunks_that_add_up_are_too_large():
    text = b"key\0\0" + zlib.compress(bytes(PngImagePlugin.MAX_TEXT_CHUNK - 1))
    data = png(png_header(1, 1), *[(b"zTXt", text)] * 66, (b"IDAT", zlib.compress(b"\0\0")))
    assert rejection(data).code == "too_large"


def test_a_progressive_jpeg_with_absurdly_many_scans_is_corrupt():
    data = encoded(PICTURE, "JPEG", progressive=True)
    scan = data[data.rfind(b"\xff\xda") : -2]
    refused = rejection(data[:-2] + scan * 200 + data[-2:])
    assert (refused.code, "scans" in refused.detail) == ("corrupt", True)


# Damage


def cuts(data, number=150):
    """Lengths that still hold the signature."""
    return np.random.default_rng(7).integers(12, len(data), number).tolist()


NOISE = Image.fromarray(np.random.default_rng(3).integers(0, 256, (96, 96, 3), np.uint8))
DAMAGEABLE = {
    "JPEG": encoded(NOISE, "JPEG"),
    "progressive JPEG": encoded(NOISE, "JPEG", progressive=True),
    "PNG": encoded(NOISE, "PNG"),
    "palette PNG": encoded(NOISE.quantize(200), "PNG"),
    "WEBP": encoded(NOISE, "WEBP"),
    "lossless WEBP": encoded(NOISE, "WEBP", lossless=True),
    "BMP": encoded(NOISE, "BMP"),
    "GIF": encoded(NOISE, "GIF"),
    "TIFF": encoded(NOISE, "TIFF"),
    "LZW TIFF": encoded(NOISE, "TIFF", compression="tiff_lzw"),
}


@pytest.mark.parametrize("name", [n for n in DAMAGEABLE if "TIFF" not in n and n != "GIF"])
def test_a_file_cut_anywhere_is_truncated(name):
    data = DAMAGEABLE[name]
    # A JPEG or PNG that lacks a part of its end marker has all its pixels.
    most = len(data) - next((n for kind, n in (("JPEG", 3), ("PNG", 24)) if kind in name), 1)
    codes = {rejection(data[:cut]).code for cut in {most, *(min(cut, most) for cut in cuts(data))}}
    assert codes == {"truncated"}


@pytest.mark.parametrize("image", [NOISE, NOISE.quantize(200), NOISE.convert("1")])
@pytest.mark.parametrize("interlaced", [False, True])
def test_a_png_that_lacks_nothing_but_its_end_marker_is_read(image, interlaced):
    data = encoded(image, "PNG")
    if interlaced:  # seven passes, of which Pillow writes none
        data = interlaced_png(np.asarray(image.convert("RGB")))
    want = Preprocessing(96, 96)
    for less in (1, 4, 8, 12):
        np.testing.assert_array_equal(pixels(data[:-less], want), pixels(data, want))
    for less in (40, 200, 1000):
        assert rejection(data[:-less], want).code == "truncated"


def interlaced_png(rgb):
    rows = b""
    for left, top, across, down in ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4),
                                    (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)):  # fmt: skip
        rows += b"".join(b"\0" + row.tobytes() for row in rgb[top::down, left::across])
    height, width = rgb.shape[:2]
    header = b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 1)
    return png(header, (b"IDAT", zlib.compress(rows)))


@pytest.mark.parametrize("name", DAMAGEABLE)
def test_the_first_bytes_of_a_file_are_refused(name):
    codes = {rejection(DAMAGEABLE[name][:length]).code for length in range(1, 12)}
    assert codes <= {"truncated", "unsupported_format"}


@pytest.mark.parametrize("name", ["TIFF", "LZW TIFF", "GIF"])
def test_a_file_cut_in_its_pixels_is_refused(name):
    data = DAMAGEABLE[name]
    codes = {rejection(data[:cut]).code for cut in cuts(data) if cut < 0.9 * len(data)}
    assert codes <= {"truncated", "corrupt", "unsupported_format"}


@pytest.mark.parametrize("name", DAMAGEABLE)
def test_turned_bits_never_raise(name):
    random = np.random.default_rng(11)
    for _ in range(150):
        data = bytearray(DAMAGEABLE[name])
        for position in random.integers(0, min(len(data), random.choice([60, len(data)])), 4):
            data[position] ^= 1 << int(random.integers(8))
        assert isinstance(decode(bytes(data), SAME), Decoded | Rejected)


def test_a_png_with_a_wrong_checksum_is_corrupt():
    data = bytearray(DAMAGEABLE["PNG"])
    data[len(data) // 2] ^= 1
    assert rejection(bytes(data)).code == "corrupt"


@pytest.mark.parametrize(
    "signature", [b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"BM", b"II*\0"]
)
def test_noise_behind_a_signature_is_refused_as_that_format(signature):
    noise = np.random.default_rng(5).bytes(5000)
    refused = rejection(signature + noise)
    assert refused.code in ("corrupt", "truncated", "too_many_pixels")
    assert refused.format in ("JPEG", "PNG", "GIF", "BMP", "TIFF")


# Settings


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("height", 0),
        ("width", -1),
        ("height", 24.0),
        ("width", True),
        ("height", 10**6),
        ("channels", 4),
        ("channels", True),
        ("resize", "nearest"),
        ("aspect", "squash"),
    ],
)
def test_wrong_preprocessing_names_the_field(field, value):
    with pytest.raises(ValueError, match=field):
        Preprocessing(**{"height": 24, "width": 24, field: value})


@pytest.mark.parametrize(("field", "value"), [("max_bytes", 0), ("max_pixels", 2**40)])
def test_wrong_limits_name_the_field(field, value):
    with pytest.raises(ValueError, match=field):
        Limits(**{field: value})


# The collection of broken, odd and hostile files

DIFFERS_FROM_PILLOW = {
    "made_less_2_bytes.jpg": "decoded",  # nothing but the end marker is missing
    "pillow_bmp_b_badrle.bmp": "corrupt",  # Pillow goes on with shifted pixels
    "made_scan_noise.jpg": "corrupt",  # libjpeg makes pixels up, and Pillow does not say so
    "pillow_hopper_bad_exif.jpg": "corrupt",  # too: the frame's header does not fit its scan
    "ljt_monkey12.jpg": "decoded",  # 12 bits
    "pillow_unknown_compression_method.png": "decoded",  # which its colour profile has
    "pillow_bmp_b_badheadersize.bmp": "decoded",  # a header of a length that no version has
    "pillow_bmp_q_pal8os2v2-16.bmp": "decoded",  # OS/2's header of 16 bytes
    "pillow_bmp_q_rgba16-4444.bmp": "decoded",  # 4 bits a band
    "pillow_hopper_webp.tif": "decoded",  # Pillow's libtiff has no WebP
    "pillow_avif_hopper.heif": "decoded",  # which Pillow alone does not read
}


def bad_images():
    if not (BAD_IMAGES / "MANIFEST.csv").exists():
        pytest.skip(f"{BAD_IMAGES} is not here")
    with (BAD_IMAGES / "MANIFEST.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    return [row for row in rows if (BAD_IMAGES / row["file"]).exists()]


def fits_the_limits(row):
    width, height = map(int, row["size"].split("x"))
    return int(row["bytes"]) <= Limits().max_bytes and width * height <= Limits().max_pixels


def test_the_collection_of_bad_images_is_decoded_exactly_where_it_should_be():
    allowed = {"JPEG", "MPO", "PNG", "WEBP", "BMP", "GIF", "TIFF", "AVIF"}
    deviations = {}
    for row in bad_images():
        data = read(BAD_IMAGES / row["file"])
        result = data if isinstance(data, Rejected) else decode(data, SAME)
        good = row["pillow_verdict"] == "ok" and row["format"] in allowed and fits_the_limits(row)
        if isinstance(result, Rejected):
            assert result.code in get_args(ErrorCode)
        if good != isinstance(result, Decoded):
            deviations[row["file"]] = getattr(result, "code", "decoded")
    if find_spec("imagecodecs") is None:
        deviations |= dict.fromkeys(("pillow_hopper_webp.tif", "ljt_monkey12.jpg"), "decoded")
    assert deviations == {
        name: code for name, code in DIFFERS_FROM_PILLOW.items() if (BAD_IMAGES / name).exists()
    }
