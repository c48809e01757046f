"""HEIC: which picture of a file counts, how it is turned, its depth, and what is refused."""

import re
from io import BytesIO

import numpy as np
import pillow_heif
import pytest
from PIL import Image

from sightstream.images import extra
from sightstream.images.decode import Decoded, Preprocessing, decode
from sightstream.images.limits import Limits
from tests.containers import Item, box, container, heic, ispe

WIDTH, HEIGHT = 96, 64
SAME = Preprocessing(HEIGHT, WIDTH)
ORIENTATION = b"\x01\x12\x00\x03\x00\x00\x00\x01\x00"
"""EXIF's entry of it, up to the value."""


def picture(red_to=255):
    """Black in the upper left, red to the right, green to the bottom."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    colours = [x * red_to // WIDTH, y * 255 // HEIGHT, np.zeros_like(x)]
    return Image.fromarray(np.stack(colours, axis=-1).astype(np.uint8))


def saved(*images, **options):
    """A file with pictures, each of Pillow or of pillow-heif."""
    file = pillow_heif.HeifFile()
    for each in images:
        if isinstance(each, Image.Image):
            file.add_from_pillow(each)
        else:
            file.add_from_heif(each)
    file.save(stream := BytesIO(), **({"quality": 95, "chroma": 444} | options))
    return stream.getvalue()


def deep(values, mode):
    return pillow_heif.from_bytes(mode, values.shape[1::-1], values.tobytes())[0]


def exif(orientation):
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags.tobytes()


def assert_about(got, wanted, most=6):
    assert isinstance(got, Decoded), got
    assert np.abs(got.pixels.astype(int) - np.asarray(wanted)).max() <= most


def test_a_heic_is_read():
    found = decode(saved(picture()), SAME)
    assert (found.format, found.width, found.height) == ("HEIC", WIDTH, HEIGHT)
    assert_about(found, picture())


@pytest.mark.parametrize("brand", [b"heic", b"heix", b"mif1", b"msf1"])
def test_brands(brand):
    data = saved(picture())
    assert_about(decode(data[:8] + brand + data[12:], SAME), picture())


@pytest.mark.parametrize(
    ("orientation", "method"),
    [(3, Image.Transpose.ROTATE_180), (2, Image.Transpose.FLIP_LEFT_RIGHT),
     (6, Image.Transpose.ROTATE_270), (7, Image.Transpose.TRANSVERSE)],
)  # fmt: skip
def test_the_rotation_of_the_container_counts_once_whatever_exif_says(orientation, method):
    data = saved(picture(), exif=exif(orientation))
    assert b"irot" in data or b"imir" in data
    both = re.sub(re.escape(ORIENTATION) + b".", ORIENTATION + bytes([orientation]), data)
    assert ORIENTATION + bytes([orientation]) in both
    turned = picture().transpose(method)
    for each in (data, both):
        found = decode(each, Preprocessing(turned.height, turned.width))
        assert (found.width, found.height) == turned.size
        assert_about(found, turned)


def test_exif_alone_turns_nothing():
    data = saved(picture(), exif=exif(1))
    assert data.count(ORIENTATION + b"\1") == 1
    assert_about(decode(data.replace(ORIENTATION + b"\1", ORIENTATION + b"\6"), SAME), picture())


@pytest.mark.parametrize("twelve", [False, True])
def test_colours_of_10_and_12_bits(twelve, monkeypatch):
    monkeypatch.setattr(pillow_heif.options, "SAVE_HDR_TO_12_BIT", twelve)
    wide = (np.asarray(picture(red_to=100)).astype(np.uint16)) * 257
    data = saved(deep(wide, "RGB;16"))
    bits = pillow_heif.open_heif(data, convert_hdr_to_8bit=False).info["bit_depth"]
    assert bits == (12 if twelve else 10)
    assert_about(decode(data, SAME), picture(red_to=100))


def test_a_dark_grey_of_10_bits_stays_dark():
    grey = np.asarray(picture())[..., 0] // 4
    found = decode(saved(deep(grey.astype(np.uint16) * 257, "L;16")), SAME)
    assert_about(found, np.repeat(grey[..., None], 3, axis=-1))


def test_transparency_becomes_white():
    clear = picture().convert("RGBA")
    clear.putalpha(Image.new("L", clear.size, 0))
    assert_about(decode(saved(clear), SAME), Image.new("RGB", clear.size, "white"))


def test_thumbnails_are_not_the_picture():
    image = pillow_heif.from_pillow(picture().resize((768, 512)))
    image.info["thumbnails"] = [96]
    data = saved(image[0])
    assert pillow_heif.open_heif(data).info["thumbnails"] == [96]
    found = decode(data, SAME)
    assert (found.width, found.height) == (768, 512)
    assert pillow_heif.HeifImageFile(BytesIO(data)).size == (768, 512)


def test_the_primary_one_of_several_pictures_counts():
    others = [Image.new("RGB", (64, 64), colour) for colour in ("red", "blue")]
    data = saved(others[0], picture(), others[1], primary_index=1)
    assert_about(decode(data, SAME), picture())


def test_a_grid_is_one_picture():
    large = picture().resize((384, 256))
    data = saved(large, tile_size=128)
    assert b"grid" in data
    assert_about(decode(data, Preprocessing(256, 384)), large)


def test_the_size_is_checked_before_pixels_are_decoded(monkeypatch):
    monkeypatch.setattr(pillow_heif.HeifImageFile, "load", lambda _: pytest.fail("was decoded"))
    refused = decode(saved(picture()), SAME, Limits(max_pixels=WIDTH * HEIGHT - 1))
    assert (refused.code, refused.width, refused.height) == ("too_many_pixels", WIDTH, HEIGHT)


def test_pixels_of_another_size_than_the_header_claims_are_corrupt():
    data = saved(picture())
    claims = data.replace(
        (WIDTH).to_bytes(4, "big") + (HEIGHT).to_bytes(4, "big"), b"\0\0\x20\0" * 2
    )
    assert claims != data
    assert decode(claims, SAME).code in ("corrupt", "too_many_pixels")


def test_each_cut_is_refused():
    data = saved(picture())
    codes = {decode(data[:length], SAME).code for length in range(12, len(data), 7)}
    assert codes <= {"truncated", "corrupt"}
    assert decode(data[:-1], SAME).code == "truncated"


def test_a_damaged_header_is_refused():
    data = saved(picture())
    for name in (b"meta", b"pitm", b"iloc", b"iprp", b"hvcC"):
        refused = decode(data.replace(name, b"none"), SAME)
        assert refused.code in ("corrupt", "unsupported_format"), name


def test_other_codecs_are_refused_by_kind():
    refused = decode(saved(picture()).replace(b"hvc1", b"vvc1"), SAME)
    assert refused.code == "unsupported_format"
    assert "convert it" in refused.detail


def test_without_pillow_heif_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(extra, "is_installed", lambda _extra: False)
    refused = decode(saved(picture()), SAME)
    assert refused.code == "unsupported_format"
    assert "pip install 'sightstream[heif]'" in refused.detail


def test_nothing_is_registered_with_pillow():
    decode(saved(picture()), SAME)
    assert "HEIF" not in Image.OPEN


GAIN = b"urn:com:apple:photo:2020:aux:hdrgainmap"
DEPTH = b"urn:mpeg:hevc:2015:auxid:2"


def auxiliary(kind, number_of_picture=1):
    """A white map that belongs to a picture, of another size."""
    map_of = heic(Image.new("L", (WIDTH // 2, HEIGHT // 2), 255))
    map_of.properties.append(box(b"auxC", kind, b"\0", full=True))
    map_of.references.append((b"auxl", [number_of_picture]))
    return map_of


def test_depth_and_gain_maps_are_never_the_picture():
    data = container(b"heic", [heic(picture()), auxiliary(GAIN), auxiliary(DEPTH)])
    seen = pillow_heif.open_heif(data)
    assert len(seen) == 1
    assert len(seen.info["aux"][GAIN.decode()]) == 1  # as libheif knows them
    assert len(seen.info["depth_images"]) == 1
    found = decode(data, SAME)
    assert (found.width, found.height) == (WIDTH, HEIGHT)
    assert_about(found, picture())


def test_a_gain_map_of_the_standard_leaves_the_picture_as_it_is():
    """ISO 21496-1: a picture that is made of the primary one and a map, for displays of HDR."""
    brighter = Item(b"tmap", bytes(62), [ispe((WIDTH, HEIGHT))], [(b"dimg", [1, 2])])
    data = container(b"heic", [heic(picture()), heic(Image.new("L", (32, 32), 255)), brighter])
    assert_about(decode(data, SAME), picture())
