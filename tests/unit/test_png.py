"""png: a picture is read, however broken the animation and the notes beside it are."""

import zlib
from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from PIL.ExifTags import Base

from sightstream.images.decode import Decoded, Preprocessing, decode

Y, X = np.mgrid[0:24, 0:40]
COLOUR = np.dstack([X * 6, Y * 10, X + Y]).astype(np.uint8)
SAME = Preprocessing(24, 40)


def chunk(name, body=b""):
    return len(body).to_bytes(4, "big") + name + body + zlib.crc32(name + body).to_bytes(4, "big")


def control(number, width=40):
    return chunk(b"fcTL", b"".join(n.to_bytes(4, "big") for n in (number, width, 24, 0, 0, 0, 0)))


def encoded(**options):
    stream = BytesIO()
    Image.fromarray(COLOUR).save(stream, "PNG", **options)
    return stream.getvalue()


STILL = encoded()
PIXELS = STILL.index(b"IDAT") - 4
COUNT = chunk(b"acTL", bytes([0, 0, 0, 2, 0, 0, 0, 0]))
FRAME = chunk(b"fdAT", bytes([0, 0, 0, 9]) + zlib.compress(bytes(24 * 121)))


BROKEN = {
    "no frame control": (COUNT, FRAME),
    "wrong sequence in front": (COUNT + control(7), FRAME),
    "wrong sequence behind": (COUNT + control(0), control(5) + FRAME),
    "frame beyond the canvas": (COUNT + control(0, 99), FRAME),
    "short control": (COUNT + chunk(b"fcTL", b"\0"), b""),
    "short frame": (COUNT + control(0), chunk(b"fdAT", b"\0")),
    "short count": (chunk(b"acTL", b"\0"), b""),
    "no count": (b"", control(3) + FRAME),
    "cut frame": (COUNT + control(0), control(1) + FRAME[:20]),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_animation_costs_no_picture(case):
    before, behind = BROKEN[case]
    end = b"" if case == "cut frame" else STILL[-12:]
    data = STILL[:PIXELS] + before + STILL[PIXELS:-12] + behind + end
    np.testing.assert_array_equal(decode(data, SAME).pixels, COLOUR)


def test_exif_behind_the_frames_counts():
    exif = Image.Exif()
    exif[Base.Orientation] = 3
    turned = chunk(b"eXIf", exif.tobytes()[6:])
    data = STILL[:PIXELS] + COUNT + control(0) + STILL[PIXELS:-12]
    data += control(1) + FRAME + turned + STILL[-12:]
    np.testing.assert_array_equal(decode(data, SAME).pixels, COLOUR[::-1, ::-1])


NOTES = ["bKGD", "cHRM", "gAMA", "hIST", "iCCP", "iTXt", "pHYs", "pCAL", "sCAL", "sPLT", "sRGB"]
NOTES += ["sTER", "tEXt", "tIME", "zTXt", "juNk", "eXIf", "sBIT"]


@pytest.mark.parametrize("behind", [False, True])
@pytest.mark.parametrize("body", [b"", b"\0", b"ab"])
@pytest.mark.parametrize("name", NOTES)
def test_a_short_note_costs_no_picture(name, body, behind):
    place = len(STILL) - 12 if behind else PIXELS
    data = STILL[:place] + chunk(name.encode(), body) + STILL[place:]
    np.testing.assert_array_equal(decode(data, SAME).pixels, COLOUR)


@pytest.mark.parametrize("behind", [False, True])
@pytest.mark.parametrize("name", ["tEXt", "gAMA", "iCCP", "tIME"])
def test_a_note_with_a_turned_bit_costs_no_picture(name, behind):
    place = len(STILL) - 12 if behind else PIXELS
    note = chunk(name.encode(), bytes(range(40)))
    data = STILL[:place] + note[:-1] + bytes([note[-1] ^ 1]) + STILL[place:]
    np.testing.assert_array_equal(decode(data, SAME).pixels, COLOUR)


@pytest.mark.parametrize("name", [b"IDAT", b"tRNS"])
def test_a_turned_bit_in_what_is_seen_is_refused(name):
    data = STILL[:PIXELS] + chunk(b"tRNS", bytes(6)) + STILL[PIXELS:]
    place = data.index(name) + 6
    data = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
    assert decode(data, SAME).code == "corrupt"


@pytest.mark.parametrize("name", [b"IDAT", b"IEND", b"tEXt"])
def test_a_last_chunk_of_which_nothing_came_costs_no_picture(name):
    data = STILL[:-12] + bytes([0, 0, 9, 9]) + name
    np.testing.assert_array_equal(decode(data, SAME).pixels, COLOUR)


@pytest.mark.parametrize("cut", [4, 8, 12, 13, 40])
def test_a_picture_that_needs_what_is_cut_off_is_refused(cut):
    end = STILL.index(b"IEND") - 8 - 5
    half = zlib.decompressobj().decompress(STILL[PIXELS + 8 : end])
    packed = zlib.compress(half[: len(half) // 2])[:-5]
    data = STILL[:PIXELS] + chunk(b"IDAT", packed) + chunk(b"IDAT", bytes(30))[: cut % 13]
    assert decode(data, SAME).code == "truncated"


ROW = {"L": 40, "RGB": 120, "P": 40, "LA": 80, "RGBA": 160, "1": 5, "I;16": 80}


def short_of_rows(picture, missing, **options):
    """The same PNG, whose last rows were never written into an otherwise whole stream."""
    stream = BytesIO()
    picture.save(stream, "PNG", **options)
    data = stream.getvalue()
    start = data.index(b"IDAT") - 4
    end = data.index(b"IEND") - 4
    rows = zlib.decompress(data[start + 8 : end - 4])
    packed = zlib.compress(rows[: len(rows) - missing])
    return data[:start] + chunk(b"IDAT", packed[:9]) + chunk(b"IDAT", packed[9:]) + data[end:]


@pytest.mark.parametrize("mode", ROW)
def test_rows_that_are_missing_in_a_whole_stream_are_refused(mode):
    grey = Image.fromarray(COLOUR[..., 0].astype(np.uint16) * 257)
    picture = grey if mode == "I;16" else Image.fromarray(COLOUR).convert(mode)
    for missing in (1, 1 + ROW[mode], 23 * (1 + ROW[mode]), 24 * (1 + ROW[mode])):
        assert decode(short_of_rows(picture, missing), SAME).code == "truncated"
    black = Image.new(picture.mode, picture.size)
    assert decode(short_of_rows(black, 1), SAME).code == "truncated"
    for whole in (picture, black):
        assert isinstance(decode(short_of_rows(whole, 0), SAME), Decoded)


@pytest.mark.parametrize("size", [(1, 1), (2, 1), (1, 2), (5, 3), (9, 9), (40, 24)])
@pytest.mark.parametrize(("depth", "colours"), [(1, 0), (4, 0), (8, 0), (8, 2), (16, 6)])
def test_passes_that_are_missing_are_refused(depth, colours, size):
    bits = depth * {0: 1, 2: 3, 6: 4}[colours]
    rows = interlaced_rows(size, bits)
    header = b"".join(n.to_bytes(4, "big") for n in size) + bytes([depth, colours, 0, 0, 1])
    for missing in (0, 1, len(rows[-1]), sum(map(len, rows)) // 2):
        stream = b"".join(rows)
        packed = zlib.compress(stream[: len(stream) - missing])
        data = STILL[:8] + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + STILL[-12:]
        result = decode(data, SAME)
        assert getattr(result, "code", "whole") == ("truncated" if missing else "whole")


def interlaced_rows(size, bits):
    order = np.array([[1, 6, 4, 6, 2, 6, 4, 6], [7] * 8, [5, 6] * 4, [7] * 8,
                      [3, 6, 4, 6, 3, 6, 4, 6], [7] * 8, [5, 6] * 4, [7] * 8])  # fmt: skip
    passes = np.tile(order, (6, 6))[: size[1], : size[0]]
    counts = [(passes == each).sum(axis=1) for each in range(1, 8)]
    return [b"\0" + b"\x55" * ((n * bits + 7) // 8) for each in counts for n in each if n]


def test_the_form_of_apple_is_refused_by_name():
    packed = zlib.compress(bytes(24 * 161))[2:-4]
    header = STILL[8:PIXELS]
    data = STILL[:8] + chunk(b"CgBI", b"P\0 \6") + header + chunk(b"IDAT", packed) + STILL[-12:]
    refused = decode(data, SAME)
    assert (refused.code, "CgBI" in refused.detail) == ("unsupported_format", True)


def test_a_file_without_pixels_is_refused():
    refused = decode(STILL[:PIXELS] + STILL[-12:], SAME)
    assert (refused.code, "it has no pixels" in refused.detail) == ("corrupt", True)
