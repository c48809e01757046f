"""jpeg: what libjpeg only warns of is refused where pixels are made up, and else read."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from sightstream.images import extra, jpeg
from sightstream.images.decode import Decoded, Preprocessing, Rejected, decode

imagecodecs = pytest.importorskip("imagecodecs")

Y, X = np.mgrid[0:203, 0:301]
RANDOM = np.random.default_rng(5)
COLOUR = np.dstack([X * 255 // 300, Y * 255 // 202, (X + Y) // 2]).astype(np.uint8)
COLOUR = (COLOUR * 0.8 + RANDOM.integers(0, 50, COLOUR.shape)).astype(np.uint8)
SAME, SMALL = Preprocessing(203, 301), Preprocessing(24, 24)


def encoded(image=COLOUR, **options):
    stream = BytesIO()
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    image.save(stream, "JPEG", **{"quality": 90} | options)
    return stream.getvalue()


KINDS = {
    "baseline": {},
    "progressive": {"progressive": True},
    "4:4:4": {"subsampling": 0},
    "4:2:2": {"subsampling": 1},
    "4:1:1": {"subsampling": "4:1:1"},
    "optimised": {"optimize": True},
    "restart": {"restart_marker_rows": 1},
    "RGB": {"keep_rgb": True},
    "grey": {"image": COLOUR[..., 0]},
    "CMYK": {"image": Image.fromarray(COLOUR).convert("CMYK")},
    "progressive CMYK": {"image": Image.fromarray(COLOUR).convert("CMYK"), "progressive": True},
}
kinds = pytest.mark.parametrize("kind", KINDS)


def pillows(data, want):
    """What Pillow alone makes of it, at the same fraction."""
    image = JpegImageFile(BytesIO(data))
    image.draft("L" if want.channels == 1 else None, (want.width, want.height))
    return image


@kinds
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("side", [1, 12, 24, 40, 80, 160, 200])
def test_the_pixels_are_pillows_at_every_fraction(kind, side, channels):
    data = encoded(**KINDS[kind])
    want = Preprocessing(side, side, channels)
    expected = pillows(data, want)
    image = jpeg.open_picture(BytesIO(data))
    image.draft("L" if channels == 1 else None, (side, side))
    assert (image.mode, image.size) == (expected.mode, expected.size)
    np.testing.assert_array_equal(np.asarray(image), np.asarray(expected))


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (3, 5), (4, 4), (1, 40), (15, 15), (17, 3)])
@pytest.mark.parametrize("side", [1, 2, 3])
def test_the_pixels_of_tiny_pictures_are_pillows(size, side):
    data = encoded(COLOUR[: size[0], : size[1]])
    image, expected = jpeg.open_picture(BytesIO(data)), pillows(data, Preprocessing(side, side))
    image.draft(None, (side, side))
    np.testing.assert_array_equal(np.asarray(image), np.asarray(expected))


def scan(data):
    """Where the compressed data of the first scan begin."""
    start = data.index(b"\xff\xda")
    return start + 2 + int.from_bytes(data[start + 2 : start + 4], "big")


@kinds
@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9])
@pytest.mark.parametrize("want", [SAME, SMALL])
def test_a_scan_that_is_cut_and_ended_is_truncated(kind, share, want):
    data = encoded(**KINDS[kind])
    start = scan(data)
    cut = start + int((len(data) - start) * share)
    for ending in (b"\xff\xd9", b"", b"\0" * 300 + b"\xff\xd9"):
        refused = decode(data[:cut] + ending, want)
        assert isinstance(refused, Rejected)
        assert refused.code in ("truncated", "corrupt")


@pytest.mark.parametrize("kind", [each for each in KINDS if each != "restart"])
@pytest.mark.parametrize("fill", [0, 0xFF, None])
def test_a_bad_sector_in_the_scan_is_refused(kind, fill):
    data = bytearray(encoded(**KINDS[kind]))
    place = (scan(data) + len(data)) // 2
    size = min(4096, (len(data) - place) // 2)
    sector = (
        bytes([fill]) * size if fill is not None else RANDOM.integers(0, 255, size, "u1").tobytes()
    )
    data[place : place + size] = sector
    refused = decode(bytes(data), SMALL)
    assert isinstance(refused, Rejected)
    assert refused.code in ("truncated", "corrupt")


def test_a_progressive_jpeg_without_its_last_scans_is_truncated():
    data = encoded(progressive=True)
    last = data.rindex(b"\xff\xda")
    for ending in (b"\xff\xd9", b""):
        refused = decode(data[:last] + ending, SMALL)
        assert (refused.code, "scans are missing" in refused.detail) == ("truncated", True)


@kinds
def test_nothing_but_the_end_marker_is_missing(kind):
    data = encoded(**KINDS[kind])
    expected = decode(data, SMALL)
    for less in (1, 2):
        got = decode(data[:-less], SMALL)
        assert isinstance(got, Decoded), got
        np.testing.assert_array_equal(got.pixels, expected.pixels)


@kinds
@pytest.mark.parametrize("junk", [b"\0\0\0\0", b"\x12junk", b"\xff\xff\xff", b"\0" * 700])
def test_bytes_between_segments_are_harmless(kind, junk):
    data = encoded(**KINDS[kind])
    first = 4 + int.from_bytes(data[4:6], "big")
    got = decode(data[:first] + junk + data[first:], SMALL)
    assert isinstance(got, Decoded), got
    np.testing.assert_array_equal(got.pixels, decode(data, SMALL).pixels)


@pytest.mark.parametrize("junk", [bytes(range(255)), b"\xff\x02\x00\x04ab", b"\xff\xbf\x00\x02"])
def test_bytes_that_pillow_stops_at_are_harmless(junk):
    block = Image.Exif()
    block[0x0112] = 6
    data = encoded(exif=block)
    first = 4 + int.from_bytes(data[4:6], "big")
    got = decode(data[:first] + junk + data[first:], SMALL)
    assert isinstance(got, Decoded), got
    assert (got.width, got.height) == (203, 301)
    np.testing.assert_array_equal(got.pixels, decode(data, SMALL).pixels)


def test_scans_of_what_follows_the_picture_do_not_count():
    data = encoded(progressive=True)
    got = decode(data + data * 20, SMALL)
    np.testing.assert_array_equal(got.pixels, decode(data, SMALL).pixels)


@pytest.mark.parametrize("behind", [b"\0" * 64, b"\xff\xd8\xff\xe0", b"ftypmp42" * 500])
def test_what_follows_the_end_is_harmless(behind):
    data = encoded()
    got = decode(data + behind, SMALL)
    np.testing.assert_array_equal(got.pixels, decode(data, SMALL).pixels)


def test_a_writer_may_fill_up_its_last_block():
    data = encoded()
    got = decode(data[:-2] + b"\0" * 30 + data[-2:], SMALL)
    np.testing.assert_array_equal(got.pixels, decode(data, SMALL).pixels)


@pytest.mark.parametrize("version", [b"\x02\x00", b"\x01\x09"])
def test_an_odd_header_is_harmless_and_hides_no_damage(version):
    data = encoded()
    odd = data[:11] + version + data[13:]
    assert isinstance(decode(odd, SMALL), Decoded)
    start = scan(odd)
    assert isinstance(decode(odd[: start + 2000] + b"\xff\xd9", SMALL), Rejected)


# More than 8 bits, and without loss

DEEP = np.dstack([X * 13, Y * 20, (X + Y) * 8]).astype(np.uint16)  # to 4020


@pytest.mark.parametrize("lossless", [False, True])
@pytest.mark.parametrize("bands", [1, 3])
def test_a_jpeg_of_12_bits_is_read(bands, lossless):
    values = np.ascontiguousarray(DEEP if bands == 3 else DEEP[..., 0])
    data = imagecodecs.jpeg_encode(values, level=98, bitspersample=12, lossless=lossless)
    want = Preprocessing(203, 301, bands)
    got = decode(data, want)
    assert (got.format, got.width, got.height) == ("JPEG", 301, 203)
    assert abs(got.pixels.squeeze() - values / 4095 * 255).mean() < 1


def test_a_jpeg_whose_frame_has_samples_of_no_bits_is_refused():
    Image.fromarray(COLOUR[..., 0]).save(held := BytesIO(), "JPEG")
    data = bytearray(held.getvalue())
    data[data.index(b"\xff\xc0") + 4] = 0  # imagecodecs then answers with no pixels
    refused = decode(bytes(data), SMALL)
    assert (refused.code, "as many pixels" in refused.detail) == ("corrupt", True)


def test_a_lossless_jpeg_of_8_bits_is_exact_and_is_not_asked_for_a_fraction():
    data = imagecodecs.jpeg_encode(COLOUR, lossless=True)
    np.testing.assert_array_equal(decode(data, SAME).pixels, COLOUR)
    small = Image.fromarray(COLOUR).resize((24, 24), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(decode(data, SMALL).pixels, small)


@pytest.mark.parametrize("bands", [1, 3])
def test_a_lossless_jpeg_with_jfif_holds_its_colours_as_they_are(bands):
    values = np.ascontiguousarray(COLOUR if bands == 3 else COLOUR[..., 0])
    data = imagecodecs.jpeg_encode(values, lossless=True)
    data = data[:2] + bytes.fromhex("ffe000104a46494600010100000100010000") + data[2:]
    got = decode(data, Preprocessing(203, 301, bands)).pixels
    np.testing.assert_array_equal(got.squeeze(), values)
    exif = Image.Exif()
    exif[0x0112] = 3
    block = b"Exif\0\0" + exif.tobytes()[6:]
    turned = data[:20] + b"\xff\xe1" + (len(block) + 2).to_bytes(2, "big") + block + data[20:]
    got = decode(turned, Preprocessing(203, 301, bands)).pixels
    np.testing.assert_array_equal(got.squeeze(), values[::-1, ::-1])


def test_without_imagecodecs_the_extra_is_named(monkeypatch):
    data = imagecodecs.jpeg_encode(DEEP, bitspersample=12)
    monkeypatch.setattr(extra, "is_installed", lambda name: False)
    refused = decode(data, SMALL)
    assert refused.code == "unsupported_format"
    assert "12-bit JPEG" in refused.detail
    assert "sightstream[tiff]" in refused.detail


def test_a_kind_of_jpeg_that_nothing_reads_is_named():
    refused = decode(imagecodecs.jpegls_encode(COLOUR), SMALL)
    assert (refused.code, "JPEG-LS" in refused.detail) == ("unsupported_format", True)


def test_without_simplejpeg_pillow_decodes(monkeypatch):
    data = encoded()
    expected = decode(data, SMALL).pixels
    monkeypatch.setattr(jpeg, "_strict_decoder", lambda: None)
    np.testing.assert_array_equal(decode(data, SMALL).pixels, expected)
