"""bmp: masks and headers of every kind are read, run lengths that leave their rows are refused."""

import struct

import numpy as np
import pytest

from sightstream.images.decode import Decoded, Preprocessing, Rejected, decode

HEIGHT, WIDTH = 5, 7
SAME = Preprocessing(HEIGHT, WIDTH)
PIXELS = np.random.default_rng(4).integers(0, 256, (HEIGHT, WIDTH, 4), np.uint8)


def bmp(rows, bits, compression=0, header=40, more=b"", height=HEIGHT, palette=b""):
    info = struct.pack("<IiiHHIIiiII", header, WIDTH, height, 1, bits, compression, len(rows),
                       0, 0, len(palette) // 4, 0)  # fmt: skip
    info = (info + more).ljust(header, b"\0")[: max(header, 40 + len(more))] + palette
    start = 14 + len(info)
    return b"BM" + struct.pack("<IHHI", start + len(rows), 0, 0, start) + info + rows


def packed(masks, size):
    """Bottom-up rows of samples in the bits of four masks, and what of their values is left."""
    stored, left = np.zeros((HEIGHT, WIDTH), np.uint32), []
    for band, mask in enumerate(masks):
        shift = (mask & -mask).bit_length() - 1 if mask else 0
        most = mask >> shift
        values = PIXELS[..., band].astype(np.uint32) * most // 255
        stored |= values << shift
        left.append(values / max(1, most) * 255)
    rows = [row.astype(f"<u{size}").tobytes() for row in stored[::-1]]
    return b"".join(row.ljust(-(-len(row) // 4) * 4, b"\0") for row in rows), np.dstack(left)


MASKS = {
    "4444": (2, (0xF00, 0xF0, 0xF, 0xF000)),
    "4440": (2, (0xF00, 0xF0, 0xF, 0)),
    "231": (2, (0x30, 0xE, 0x1, 0)),
    "1924": (2, (0x8000, 0x7FC0, 0x30, 0xF)),
    "10 bits": (4, (0x3FF00000, 0xFFC00, 0x3FF, 0)),
    "2 and 10 bits": (4, (0x3FF, 0xFFC00, 0x3FF00000, 0xC0000000)),
    "565": (2, (0xF800, 0x7E0, 0x1F, 0)),
    "usual": (4, (0xFF0000, 0xFF00, 0xFF, 0xFF000000)),
}


@pytest.mark.parametrize("header", [56, 108, 124])
@pytest.mark.parametrize("name", MASKS)
def test_bands_are_read_wherever_their_masks_are(name, header):
    size, masks = MASKS[name]
    rows, left = packed(masks, size)
    got = decode(bmp(rows, 8 * size, 3, header, struct.pack("<4I", *masks)), SAME)
    assert isinstance(got, Decoded), got
    opacity = left[..., 3:] / 255 if masks[3] else 1
    assert abs(got.pixels - (left[..., :3] * opacity + 255 * (1 - opacity))).max() <= 9
    assert abs(got.pixels - (left[..., :3] * opacity + 255 * (1 - opacity))).mean() <= 2


def test_masks_without_all_rows_are_truncated():
    size, masks = MASKS["4444"]
    data = bmp(packed(masks, size)[0], 16, 3, 56, struct.pack("<4I", *masks))
    assert decode(data[:-20], SAME).code == "truncated"


@pytest.mark.parametrize("header", [16, 20, 24, 36, 40, 44, 66, 80, 128])
def test_a_header_that_leaves_out_what_is_0_or_adds_fields_is_read(header):
    rows = b"".join(row[:, 2::-1].tobytes().ljust(24, b"\0") for row in PIXELS[::-1])
    data = bmp(rows, 24)
    fields = data[18 : 14 + min(header, 40)] + bytes(max(0, header - 40))
    data = data[:10] + struct.pack("<II", 14 + header, header) + fields + data[54:]
    np.testing.assert_array_equal(decode(data, SAME).pixels, PIXELS[..., :3])


@pytest.mark.parametrize(("method", "name"), [(4, "JPEG"), (5, "PNG")])
def test_a_picture_of_another_format_inside_is_named(method, name):
    refused = decode(bmp(b"\xff\xd8\xff", 0, method), SAME)
    assert (refused.code, f"holds a {name}" in refused.detail) == ("unsupported_format", True)


PALETTE = b"".join(bytes([n, n, n, 0]) for n in range(16))


@pytest.mark.parametrize(("method", "bits"), [(1, 8), (2, 4)])
@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (b"\x07\x33", Decoded),  # a run that ends with the row
        (b"\x08\x33", Decoded),  # and one that does not, as some writers have it
        (b"\x04\x33\0\x03\x12\x21\x12\0", Decoded),  # single pixels up to the end of the row
        (b"\x04\x33\0\x08" + b"\x12" * 8, Rejected),  # and beyond it
        (b"\0\x0c" + b"\x12" * 12, Rejected),
    ],
)
def test_single_pixels_do_not_leave_their_row(row, expected, method, bits):
    if method == 2 and b"\0\x03" in row:
        row = row[:-2]
    elif method == 2 and expected is Rejected:
        count = row[row.index(0) + 1] // 2
        row = row[:-count]
    data = bmp((row + b"\0\0") * HEIGHT + b"\0\1", bits, method, palette=PALETTE)
    got = decode(data, SAME)
    assert isinstance(got, expected), got
    if expected is Rejected:
        assert (got.code, "leaves its row" in got.detail) == ("corrupt", True)


@pytest.mark.parametrize("last", [b"\4\x33", b"\0\2\3\0\2\x33"])
@pytest.mark.parametrize(("method", "bits"), [(1, 8), (2, 4)])
def test_the_end_may_leave_out_the_rest_of_the_last_row(method, bits, last):
    rows = (b"\x07\x33" + b"\0\0") * (HEIGHT - 1)
    got = decode(bmp(rows + last + b"\0\1", bits, method, palette=PALETTE), SAME)
    assert isinstance(got, Decoded), got
    assert got.pixels[0, -1].tolist() == [0, 0, 0]
    assert (got.pixels[1:] == (0x33 if method == 1 else 3)).all()
    for cut in (rows + last, rows + b"\0\1", rows):
        assert decode(bmp(cut, bits, method, palette=PALETTE), SAME).code == "truncated"


def test_noise_behind_any_header_never_raises():
    random = np.random.default_rng(6)
    for header in (12, 16, 20, 40, 52, 56, 64, 108, 124):
        for method in range(7):
            for bits in (1, 4, 8, 16, 24, 32):
                data = bytearray(bmp(random.bytes(400), bits, method, 124))
                data[14] = header
                assert isinstance(decode(bytes(data), SAME), Decoded | Rejected)


RARE = {
    "2 bits a pixel": bmp(bytes(20), 2, palette=bytes(16)),
    "64 bits a pixel": bmp(bytes(HEIGHT * WIDTH * 8), 64),
    "Huffman codes": bmp(bytes(20), 1, 3, 64, palette=bytes(8)),
    "run lengths of 24 bits": bmp(bytes(20), 24, 4, 64),
}


@pytest.mark.parametrize("kind", RARE)
def test_rare_kinds_are_refused_by_name(kind):
    refused = decode(RARE[kind], SAME)
    assert (refused.code, kind in refused.detail) == ("unsupported_format", True)
