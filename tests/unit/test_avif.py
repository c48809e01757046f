"""AVIF: brands, rotation, depth, the first frame, and what is refused."""

from io import BytesIO
from struct import pack

import imagecodecs
import numpy as np
import pytest
from PIL import AvifImagePlugin, Image
from PIL.AvifImagePlugin import AvifImageFile

from sightstream.images.decode import Decoded, Preprocessing, decode
from sightstream.images.limits import Limits
from tests.containers import avif, container, grid
from tests.unit.test_heif import ORIENTATION, SAME, assert_about, exif, picture


def saved(image, **options):
    image.save(stream := BytesIO(), "AVIF", **({"quality": 95, "subsampling": "4:4:4"} | options))
    return stream.getvalue()


def test_an_avif_is_read():
    found = decode(saved(picture()), SAME)
    assert (found.format, found.width, found.height) == ("AVIF", *picture().size)
    assert_about(found, picture())


def test_brands_of_the_container_do_not_hide_an_avif():
    data = saved(picture())
    assert data[8:12] == b"avif"
    for brand in (b"mif1", b"msf1"):
        assert_about(decode(data[:8] + brand + data[12:], SAME), picture())


@pytest.mark.parametrize(
    ("orientation", "method"),
    [(2, Image.Transpose.FLIP_LEFT_RIGHT), (3, Image.Transpose.ROTATE_180),
     (4, Image.Transpose.FLIP_TOP_BOTTOM), (5, Image.Transpose.TRANSPOSE),
     (6, Image.Transpose.ROTATE_270), (7, Image.Transpose.TRANSVERSE),
     (8, Image.Transpose.ROTATE_90)],
)  # fmt: skip
def test_the_rotation_of_the_container_counts_once(orientation, method):
    turned = picture().transpose(method)
    found = decode(
        saved(picture(), exif=exif(orientation)), Preprocessing(turned.height, turned.width)
    )
    assert (found.width, found.height) == turned.size
    assert_about(found, turned)


def test_exif_alone_turns_nothing():
    tags = Image.Exif()
    tags[0x0113] = 1  # The encoder takes the orientation itself for the container.
    data = saved(picture(), exif=tags.tobytes())
    turned = data.replace(ORIENTATION.replace(b"\x12", b"\x13") + b"\1", ORIENTATION + b"\6")
    assert turned != data
    assert_about(decode(turned, SAME), picture())


@pytest.mark.parametrize("bits", [10, 12])
def test_10_and_12_bits(bits):
    values = np.asarray(picture(red_to=100)).astype(np.uint16) * ((2**bits - 1) // 255)
    data = imagecodecs.avif_encode(values, level=100, bitspersample=bits)
    # Pillow cuts the lower bits off.
    assert_about(decode(data, SAME), picture(red_to=100))


def test_transparency_becomes_white():
    clear = picture().convert("RGBA")
    clear.putalpha(0)
    assert_about(decode(saved(clear), SAME), Image.new("RGB", clear.size, "white"))


def test_the_first_frame_of_an_animation_counts():
    blue = Image.new("RGB", picture().size, "blue")
    data = saved(picture(), save_all=True, append_images=[blue, blue])
    assert data[8:12] == b"avis"
    assert_about(decode(data, SAME), picture())


def test_the_size_is_checked_before_pixels_are_decoded(monkeypatch):
    monkeypatch.setattr(AvifImageFile, "load", lambda _: pytest.fail("was decoded"))
    refused = decode(saved(picture()), SAME, Limits(max_pixels=100))
    assert (refused.code, refused.width, refused.height) == ("too_many_pixels", *picture().size)


def test_each_cut_is_refused():
    data = saved(picture())
    codes = {decode(data[:length], SAME).code for length in range(12, len(data), 7)}
    assert codes <= {"truncated", "corrupt"}
    assert decode(data[:-1], SAME).code == "truncated"


def test_damage_never_raises():
    random, whole = np.random.default_rng(7), saved(picture())
    for _ in range(60):
        data = bytearray(whole)
        for position in random.integers(30, len(data), 3):
            data[position] ^= 1 << int(random.integers(8))
        found = decode(bytes(data), SAME)
        assert isinstance(found, Decoded) or found.detail


def test_a_broken_exif_block_does_not_refuse_the_picture():
    tags = Image.Exif()
    tags[0x0113] = 1
    data = saved(picture(), exif=tags.tobytes())
    broken = data.replace(b"MM\0*\0\0\0\x08", b"XX\xff\xff\0\0\0\x08")
    assert broken != data
    assert_about(decode(broken, SAME), picture())


def test_a_pillow_without_avif_is_named(monkeypatch):
    data = saved(picture())
    monkeypatch.setattr(AvifImagePlugin, "SUPPORTED", False)
    refused = decode(data, SAME)
    assert (refused.code, "built without AVIF" in refused.detail) == ("unsupported_format", True)


def claims(data, before, size):
    """The same file whose header claims another size, at each place behind `before`."""
    old, new = (b"".join(n.to_bytes(4, "big") for n in pair) for pair in (picture().size, size))
    assert before + old in data
    return data.replace(before + old, before + new)


ISPE = b"ispe\0\0\0\0"


@pytest.mark.parametrize("size", [(9000, 9000), (8, 8), (picture().width + 1, picture().height)])
def test_a_header_that_claims_another_size_is_refused_before_pixels_are_decoded(size, monkeypatch):
    monkeypatch.setattr(AvifImageFile, "load", lambda _: pytest.fail("was decoded"))
    found = decode(claims(saved(picture()), ISPE, size), SAME)
    real, claimed = ("{}x{}".format(*each) for each in (picture().size, size))
    assert (found.code, found.detail) == (
        "corrupt", f"The AVIF cannot be decoded: its pixels are {real}, and its header says "
        f"{claimed}.",
    )  # fmt: skip


def test_so_is_one_of_a_sequence_whose_track_does():
    data = saved(picture(), save_all=True, append_images=[picture()])
    old, new = (pack(">II", *(n << 16 for n in pair)) for pair in (picture().size, (9000, 9000)))
    place = data.index(old, data.index(b"tkhd"))
    lies = data[:place] + new + data[place + 8 :]
    assert decode(lies, SAME).code == "corrupt"
    assert_about(decode(data, SAME), picture())


TILE = 64


def joined(whole, size, claimed=None):
    """A grid of 3x2 tiles, of which `size` is seen."""
    tiles = [
        avif(whole.crop((x * TILE, y * TILE, (x + 1) * TILE, (y + 1) * TILE)), claimed)
        for y in range(2)
        for x in range(3)
    ]
    return container(b"avif", grid(tiles, 3, size))


def test_a_grid_is_one_picture():
    whole = picture().resize((192, 128))
    assert_about(decode(joined(whole, whole.size), Preprocessing(128, 192)), whole)
    found = decode(joined(whole, (180, 100)), Preprocessing(100, 180))  # the last tiles stand out
    assert (found.width, found.height) == (180, 100)
    assert_about(found, whole.crop((0, 0, 180, 100)))


def test_a_grid_whose_tiles_claim_another_size_is_refused():
    whole = picture().resize((192, 128))
    found = decode(joined(whole, (12_000, 8000), (4000, 4000)), SAME)
    assert (found.code, "its pixels are 64x64, and its header says 4000x4000" in found.detail) == (
        "corrupt", True,
    )  # fmt: skip
