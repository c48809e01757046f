"""JPEG XL: its header, rotation, depth, bands and frames, and what is refused."""

import imagecodecs
import numpy as np
import pytest
from PIL import Image

from sightstream.images import extra, jxl, jxl_header
from sightstream.images.decode import Preprocessing, decode
from sightstream.images.limits import Limits
from tests.unit.test_heif import SAME, assert_about, picture

VALUES = np.asarray(picture())
HEIGHT, WIDTH = VALUES.shape[:2]


def saved(values=VALUES, **options):
    return imagecodecs.jpegxl_encode(values, **({"lossless": True} | options))


class Writer:
    """Numbers as bits, the lowest first."""

    def __init__(self, bits=""):
        self.bits = bits

    def __call__(self, *numbers):
        """Write pairs of a number and its bits."""
        for value, count in numbers:
            self.bits += f"{value:0{count}b}"[::-1] if count else ""
        return self

    def bytes(self):
        padded = self.bits.ljust(-(-len(self.bits) // 8) * 8, "0")
        return int(padded[::-1], 2).to_bytes(len(padded) // 8, "little")


def rewritten(data, edit, used=22):
    """The codestream with its header edited, which takes so many bits of its first 5 bytes."""
    bits = f"{int.from_bytes(data[2:5], 'little'):024b}"[::-1]
    assert bits.startswith("111100001" + "0"), "not the header that is known here"
    return b"\xff\x0a" + Writer(edit(bits[:used])).bytes() + data[5:]


def turned(orientation):
    """VALUES, with this orientation in the header of their codestream."""
    fields = "1" + f"{orientation - 1:03b}"[::-1] + "000"
    return rewritten(saved(), lambda bits: bits[:10] + fields + bits[11:19] + "1" + bits[19:])


def test_a_jxl_is_read():
    found = decode(saved(), SAME)
    assert (found.format, found.width, found.height) == ("JXL", WIDTH, HEIGHT)
    np.testing.assert_array_equal(found.pixels, VALUES)


@pytest.mark.parametrize("container", [False, True])
@pytest.mark.parametrize("lossless", [False, True])
@pytest.mark.parametrize("size", [(1, 1), (8, 8), (64, 96), (300, 7), (100, 200), (2000, 3)])
def test_sizes_are_read_from_the_header(size, lossless, container):
    values = np.zeros((*size, 3), np.uint8)
    data = saved(values, lossless=lossless, usecontainer=container)
    assert data[:2] == (b"\0\0" if container else b"\xff\x0a")
    assert jxl.header_size(data) == size[::-1]


def test_a_codestream_may_come_in_parts():
    data, box = saved(), b"\0\0\0\x0cJXL \r\n\x87\n\0\0\0\x14ftypjxl \0\0\0\0jxl "
    for number, part in enumerate((data[:5], data[5:])):
        count = number | (2**31 if number else 0)
        box += (12 + len(part)).to_bytes(4, "big") + b"jxlp" + count.to_bytes(4, "big") + part
    np.testing.assert_array_equal(decode(box, SAME).pixels, VALUES)


def test_the_size_is_checked_before_pixels_are_decoded(monkeypatch):
    monkeypatch.setattr(imagecodecs, "jpegxl_decode", lambda *_, **__: pytest.fail("was decoded"))
    refused = decode(saved(), SAME, Limits(max_pixels=WIDTH * HEIGHT - 1))
    assert (refused.code, refused.width, refused.height) == ("too_many_pixels", WIDTH, HEIGHT)
    # A side of 2^30, which a few bits can claim.
    huge = Writer()((0, 1), (3, 2), (2**30 - 1, 30), (1, 3), (1, 1)).bytes()
    assert decode(b"\xff\x0a" + huge, SAME).code == "too_many_pixels"


@pytest.mark.parametrize(("bits", "most"), [(10, 1023), (12, 4095)])
def test_more_than_8_bits(bits, most):
    values = (VALUES.astype(int) * most // 255).astype(np.uint16)
    assert_about(decode(saved(values, bitspersample=bits), SAME), VALUES, 1)


def test_16_bits_are_those_of_a_png():
    dark = (VALUES.astype(int) * 65535 // 255 // 3).astype(np.uint16)
    wanted = decode(imagecodecs.png_encode(dark), SAME).pixels
    np.testing.assert_array_equal(decode(saved(dark), SAME).pixels, wanted)


def test_the_header_says_what_is_white():
    dark = (VALUES.astype(int) * 1023 // 255 // 4).astype(np.uint16)
    assert_about(decode(saved(dark, bitspersample=10), SAME), VALUES // 4, 1)


def test_floats():
    assert_about(decode(saved(VALUES.astype(np.float32) / 255), SAME), VALUES, 1)


def test_grey_and_transparency():
    grey = VALUES[..., 0]
    alpha = np.full_like(grey, 255)
    alpha[:, : WIDTH // 2] = 0
    for colours in (grey, VALUES):
        shown = colours.copy()
        shown[:, : WIDTH // 2] = 255
        whole = colours.reshape(HEIGHT, WIDTH, -1)
        np.testing.assert_array_equal(
            decode(saved(np.dstack([whole, alpha])), SAME).pixels,
            np.broadcast_to(shown.reshape(HEIGHT, WIDTH, -1), VALUES.shape),
        )
    np.testing.assert_array_equal(decode(saved(grey), SAME).pixels[..., 1], grey)


def test_bands_that_are_no_colours_are_left_out():
    planes = np.stack([VALUES[..., 0], VALUES[..., 1], VALUES[..., 0]])
    data = saved(planes, planar=True, photometric="gray")
    np.testing.assert_array_equal(decode(data, SAME).pixels[..., 0], planes[0])


def test_the_first_frame_of_an_animation_counts():
    data = saved(np.stack([VALUES, 255 - VALUES, VALUES]))
    assert imagecodecs.jpegxl_decode(data).shape[0] == 3
    np.testing.assert_array_equal(decode(data, SAME).pixels, VALUES)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_of_the_codestream_counts_once(orientation):
    exif = b"\0\0\0\0MM\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0" + bytes([orientation, 0, 0])
    data = turned(orientation)
    container = b"\0\0\0\x0cJXL \r\n\x87\n\0\0\0\x14ftypjxl \0\0\0\0jxl "
    for kind, content in ((b"Exif", exif), (b"jxlc", data)):
        container += (8 + len(content)).to_bytes(4, "big") + kind + content
    method = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}.get(orientation)
    wanted = picture() if method is None else picture().transpose(Image.Transpose(method))
    for each in (data, container):
        found = decode(each, Preprocessing(wanted.height, wanted.width))
        assert (found.width, found.height) == wanted.size
        np.testing.assert_array_equal(found.pixels, np.asarray(wanted))


def test_colours_that_were_multiplied_by_alpha():
    half = np.dstack([VALUES // 2, np.full_like(VALUES[..., 0], 128)])
    explicit = "0" + "00" + "000" + "00" + "00" + "1"  # alpha of 8 bits, whole, unnamed
    data = rewritten(saved(half), lambda bits: bits[:17] + explicit + bits[18:], used=23)
    assert_about(decode(data, SAME), VALUES // 2 + 127, 1)
    assert_about(decode(saved(half), SAME), VALUES // 4 + 127, 1)


def test_a_header_with_everything():
    animation = [(3, 2), (4, 30), (2, 2), (5, 8), (1, 2), (6, 3), (0, 1)]
    fields = [(0, 1), (1, 1), (4, 3), (1, 1), (1, 1), (2, 5), (1, 3), (1, 1), (0, 1), (0, 2)]
    fields += [(9, 6), (1, 3), (1, 1), *animation]
    depth = [(1, 1), (1, 2), (4, 4)]  # floats of 16 bits
    named = [(0, 1), (1, 2), (0, 1), (0, 2), (3, 2), (2, 3), (1, 2), (2, 4), (0x6162, 16)]
    spot = [(0, 1), (2, 2), (0, 4), (0, 1), (1, 2), (0, 2), (0, 2), (0, 64)]
    black = [(0, 1), (2, 2), (2, 4), (0, 1), (3, 2), (15, 6), (0, 2), (0, 2)]
    bands = [(2, 2), (1, 4), named, spot, black]
    flat = [each for item in bands for each in (item if isinstance(item, list) else [item])]
    header = Writer()((0, 1), (0, 2), (99, 9), (0, 3), (1, 2), (999, 13), *fields, *depth, (1, 1))
    header(*flat, (1, 1), (0, 1), (1, 1))
    found = jxl_header.read(b"\xff\x0a" + header.bytes())
    assert found == jxl_header.Header(100, 1000, 16, False, True, True)
    refused = decode(b"\xff\x0a" + header.bytes(), SAME)
    assert (refused.code, "CMYK" in refused.detail) == ("unsupported_format", True)


def test_linear_light_becomes_that_of_srgb():
    """As libjxl returns lossy pictures whose profile it cannot apply."""
    data = saved()
    linear = jxl_header.Header(WIDTH, HEIGHT, 8, False, False, is_linear=True)
    found = jxl.load(jxl.Jxl(linear), data).values
    light = VALUES / 255
    wanted = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    assert np.abs(found - wanted * 255).max() <= 0.5


@pytest.mark.parametrize("container", [False, True])
def test_each_cut_is_refused(container):
    data = saved(usecontainer=container)
    for length in range(12, len(data), 7):
        assert decode(data[:length], SAME).code in {"truncated", "corrupt"}
    assert decode(data[:-1], SAME).code == "truncated"
    assert decode(b"\xff\x0a", SAME).code == "truncated"


def test_damage_is_refused():
    data = bytearray(saved())
    data[len(data) // 2 :] = bytes(len(data) - len(data) // 2)
    assert decode(bytes(data), SAME).code in {"truncated", "corrupt"}


def test_without_imagecodecs_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(extra, "is_installed", lambda _extra: False)
    refused = decode(saved(), SAME)
    assert refused.code == "unsupported_format"
    assert "pip install 'sightstream[jxl]'" in refused.detail
