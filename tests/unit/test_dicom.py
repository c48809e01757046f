"""dicom: the pixels that the standard says are seen, or a refusal that quotes no header."""

import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest

from sightstream.images import dicom_header, extra
from sightstream.images.decode import Decoded, Preprocessing, Rejected, decode
from sightstream.images.limits import Limits
from tests import dicoms
from tests.dicoms import BIG, DEFLATED, EXPLICIT, IMPLICIT, RLE, dataset, item, saved

pydicom = pytest.importorskip("pydicom")
pytest.importorskip("libjpeg")

SIDE = 48
Y, X = np.mgrid[0:SIDE, 0:SIDE]
RAMP = (X + Y).astype(np.uint16) * 40  # 0 to 3760, 12 bits
GREY = (X * 2 + Y * 2 + 3).astype(np.uint8)
RGB = np.dstack([GREY, 255 - GREY, GREY[::-1]])
ONE, THREE = Preprocessing(SIDE, SIDE, 1), Preprocessing(SIDE, SIDE)


def pixels(data, want=ONE):
    result = decode(data, want)
    assert isinstance(result, Decoded), result
    assert (result.format, result.width, result.height) == ("DICOM", SIDE, SIDE)
    found = result.pixels.astype(int)
    return found[..., 0] if want.channels == 1 else found


def refusal(data, want=ONE, **limits):
    result = decode(data, want, Limits(**limits))
    assert isinstance(result, Rejected), result
    assert result.format == "DICOM"
    return result


def seen(data, **want):
    return pixels(data, Preprocessing(SIDE, SIDE, 1, **want))


def stretched(values, low=None, high=None):
    """By hand: the least value (or `low`) is black, the largest one white."""
    low = float(values.min()) if low is None else low
    high = float(values.max()) if high is None else high
    return np.floor((values.astype(float).clip(low, high) - low) / (high - low) * 255 + 0.5)


def windowed(values, center, width):
    return stretched(values.astype(float), center - width / 2, center + width / 2 - 1)


# The way from stored values to what is seen


def test_without_a_window_the_least_value_is_black_and_the_largest_white():
    np.testing.assert_array_equal(pixels(saved(dataset(RAMP, bits=12))), stretched(RAMP))


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, BIG])
@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4"])
def test_every_type_in_every_order_of_bytes(dtype, syntax):
    values = (GREY if dtype[1] == "1" else RAMP).astype(dtype)
    if dtype[0] == "i":
        values -= 100
    np.testing.assert_array_equal(pixels(saved(dataset(values, syntax=syntax))), stretched(values))


def test_floats_are_read_too():
    made = dataset(RAMP, bits=12)
    del made.PixelData
    made.BitsAllocated = 32
    values = RAMP.astype("f4") / 7
    made.FloatPixelData = values.tobytes()
    np.testing.assert_array_equal(pixels(saved(made)), stretched(values))


def test_rescale_comes_before_the_window():
    made = dataset(RAMP.astype("i2"), WindowCenter=40, WindowWidth=400)
    made.RescaleSlope, made.RescaleIntercept = "0.5", "-1024"
    np.testing.assert_array_equal(pixels(saved(made)), windowed(RAMP * 0.5 - 1024, 40, 400))


def test_monochrome1_is_inverted():
    made = dataset(RAMP, bits=12, WindowCenter=2000, WindowWidth=3000)
    plain = pixels(saved(made))
    made.PhotometricInterpretation = "MONOCHROME1"
    assert abs(pixels(saved(made)) - (255 - plain)).max() <= 1
    made.PresentationLUTShape = "INVERSE"  # which belongs to it, and inverts no second time
    assert abs(pixels(saved(made)) - (255 - plain)).max() <= 1


def test_the_first_of_several_windows_counts_and_another_can_be_chosen():
    made = dataset(RAMP, bits=12, WindowCenter=[1000, 3000], WindowWidth=[800, 500])
    data = saved(made)
    np.testing.assert_array_equal(seen(data), windowed(RAMP, 1000, 800))
    np.testing.assert_array_equal(seen(data, window="2"), windowed(RAMP, 3000, 500))
    np.testing.assert_array_equal(seen(data, window="50/400"), windowed(RAMP, 50, 400))
    np.testing.assert_array_equal(seen(data, window="bone"), windowed(RAMP, 400, 1800))
    refused = refusal(data, Preprocessing(SIDE, SIDE, 1, window="3"))
    assert refused.code == "unsupported_format"
    assert refused.detail == "The model looks through window 3 of a DICOM; it has 2."


def test_a_window_without_width_does_not_count():
    made = dataset(RAMP, bits=12, WindowCenter=0, WindowWidth=0)
    np.testing.assert_array_equal(pixels(saved(made)), stretched(RAMP))


@pytest.mark.parametrize("function", ["LINEAR_EXACT", "SIGMOID"])
def test_other_functions_of_a_window(function):
    made = dataset(RAMP, bits=12, WindowCenter=2000, WindowWidth=1000, VOILUTFunction=function)
    part = {"LINEAR_EXACT": ((RAMP - 2000.0) / 1000 + 0.5).clip(0, 1),
            "SIGMOID": 1 / (1 + np.exp(-4 * (RAMP - 2000.0) / 1000))}[function]  # fmt: skip
    assert abs(pixels(saved(made)) - np.floor(part * 255 + 0.5)).max() <= 1


@pytest.mark.parametrize("stored_as", ["US", "OW"])
@pytest.mark.parametrize("syntax", [EXPLICIT, BIG])
def test_a_voi_lut_comes_before_windows(stored_as, syntax):
    curve = (np.linspace(0, 1, 4096) ** 2 * 1023).astype("u2")
    lut = item(LUTDescriptor=[4096, 0, 10])
    data = curve.tolist() if stored_as == "US" else curve.astype(["<u2", ">u2"][syntax == BIG])
    lut.add_new("LUTData", stored_as, data if stored_as == "US" else data.tobytes())
    made = dataset(RAMP, bits=12, syntax=syntax, WindowCenter=9, WindowWidth=9)
    made.VOILUTSequence = [lut]
    data = saved(made)
    np.testing.assert_array_equal(seen(data), np.floor(curve[RAMP] / 1023 * 255 + 0.5))
    np.testing.assert_array_equal(seen(data, window="2"), windowed(RAMP, 9, 9))


def test_a_modality_lut_of_signed_values_with_an_offset():
    values = (RAMP // 40).astype("i2") - 50  # -50 to 44
    entries = np.arange(60, dtype="u2") ** 2
    lut = item(LUTDescriptor=[60, -30, 16])
    lut.add_new("LUTData", "US", entries.tolist())
    lut["LUTDescriptor"].VR = "SS"
    made = dataset(values, ModalityLUTSequence=[lut])
    np.testing.assert_array_equal(
        pixels(saved(made)), stretched(entries[(values + 30).clip(0, 59)])
    )


def test_padding_does_not_count_in_automatic_windows():
    values = RAMP.astype("i2")
    values[:5] = -2000
    made = dataset(values, PixelPaddingValue=-2000)
    np.testing.assert_array_equal(pixels(saved(made)), stretched(values, values[5:].min()))
    values[5, :5] = -1900
    made = dataset(values, PixelPaddingValue=-2000, PixelPaddingRangeLimit=-1800)
    np.testing.assert_array_equal(pixels(saved(made)), stretched(values, 6 * 40))


def test_nothing_but_padding_is_black():
    made = dataset(np.full((SIDE, SIDE), 7, "u2"), PixelPaddingValue=7)
    assert not pixels(saved(made)).any()


@pytest.mark.parametrize(("bits", "high"), [(12, 11), (12, 15), (10, 12)])
def test_bits_beside_the_stored_ones_are_ignored(bits, high):
    values = RAMP >> (12 - bits)
    shift = high + 1 - bits
    noise = np.random.default_rng(3).integers(0, 2**16, values.shape).astype("u2")
    mask = np.uint16((2**bits - 1) << shift)
    made = dataset((values << shift) | (noise & ~mask), bits=bits, HighBit=high)
    np.testing.assert_array_equal(pixels(saved(made)), stretched(values))


def test_signed_values_of_12_bits_keep_their_sign():
    values = RAMP.astype("i2") - 2000
    made = dataset((values & 0xFFF).astype("u2"), bits=12, PixelRepresentation=1)
    np.testing.assert_array_equal(pixels(saved(made)), stretched(values))


def test_single_bits_are_black_and_white():
    mask = (GREY > 90).astype(np.uint8)
    made = dataset(mask, BitsAllocated=1, BitsStored=1, HighBit=0)
    made.PixelData = np.packbits(mask.ravel(), bitorder="little").tobytes()
    np.testing.assert_array_equal(pixels(saved(made)), mask * 255)


def test_overlays_are_ignored():
    made = dataset(RAMP, bits=12)
    plain = pixels(saved(made))
    made.add_new(0x60000010, "US", SIDE)
    made.add_new(0x60000011, "US", SIDE)
    made.add_new(0x60003000, "OW", b"\xff" * (SIDE * SIDE // 8))
    np.testing.assert_array_equal(pixels(saved(made)), plain)


# Colours


@pytest.mark.parametrize("planar", [0, 1])
@pytest.mark.parametrize("syntax", [EXPLICIT, BIG])
def test_rgb_is_exact(planar, syntax):
    made = dataset(RGB, syntax=syntax, PlanarConfiguration=planar)
    if planar:
        made.PixelData = np.moveaxis(RGB, -1, 0).tobytes()
    np.testing.assert_array_equal(pixels(saved(made), THREE), RGB)


def test_rgb_of_16_bits_is_brought_to_8():
    made = dataset(RGB.astype("u2") * 257)
    np.testing.assert_array_equal(pixels(saved(made), THREE), RGB)
    made = dataset(RGB.astype("u2") * 16, bits=12)
    assert abs(pixels(saved(made), THREE) - RGB).max() <= 1


@pytest.mark.parametrize("half", [False, True])
def test_ybr_becomes_rgb(half):
    from PIL import Image

    picture = np.repeat(RGB[:, ::2], 2, axis=1)  # whose colours do not change within a pair
    ybr = np.asarray(Image.fromarray(picture).convert("YCbCr"))
    made = dataset(ybr, PhotometricInterpretation="YBR_FULL")
    if half:
        pairs = ybr.reshape(-1, 2, 3)
        made.PhotometricInterpretation = "YBR_FULL_422"
        stored = np.stack([pairs[:, 0, 0], pairs[:, 1, 0], pairs[:, 0, 1], pairs[:, 0, 2]], -1)
        made.PixelData = stored.tobytes()
    assert abs(pixels(saved(made), THREE) - picture).max() <= 3  # YCbCr of 8 bits is no exact one


def palette(made, tables, bits, first=0, prefix="", count=None):
    made.PhotometricInterpretation = "PALETTE COLOR"
    for name, table in zip(("Red", "Green", "Blue"), tables, strict=True):
        element = f"{name}PaletteColorLookupTable"
        setattr(made, f"{element}Descriptor", [count or len(table), first, bits])
        setattr(made, f"{prefix}{element}Data", np.asarray(table, "<u2").tobytes())
    return made


def test_a_palette_gives_the_colours():
    table = np.random.default_rng(1).integers(0, 2**16, (3, 200))
    made = palette(dataset(GREY), table, 16, first=10)
    places = (GREY.astype(int) - 10).clip(0, 199)
    np.testing.assert_array_equal(
        pixels(saved(made), THREE), (table[:, places] >> 8).transpose(1, 2, 0)
    )


def test_a_palette_that_stores_8_bits_and_says_16():
    table = np.random.default_rng(1).integers(0, 256, (3, 256))
    made = palette(dataset(GREY), table, 16)
    np.testing.assert_array_equal(pixels(saved(made), THREE), table[:, GREY].transpose(1, 2, 0))


def test_a_segmented_palette():
    # Discrete 0 and 1000, linear to 65000 in 126, and the first segment again, from byte 0.
    segments = [0, 2, 0, 1000, 1, 126, 65000, 2, 1, 0, 0, 1, 126, 500]
    made = palette(dataset(GREY), [segments] * 3, 16, prefix="Segmented", count=256)
    first = np.rint(np.linspace(1000, 65000, 127))[1:]
    last = np.rint(np.linspace(1000, 500, 127))[1:]
    table = np.concatenate([[0, 1000], first, [0, 1000], last]).astype(int)
    np.testing.assert_array_equal(pixels(saved(made), THREE)[..., 1], table[GREY] >> 8)


@pytest.mark.parametrize(
    "segments", [[0, 9, 1], [7, 1, 1, 1], [1, 5, 9], [0, 0] * 50, [0, 1, 5, 2, 9, 40, 0],
                 [0, 1, 5] + [2, 65535, 0, 0] * 5000],
)  # fmt: skip
def test_hostile_segments_end_at_once(segments):
    made = palette(dataset(GREY), [segments] * 3, 16, prefix="Segmented", count=65535)
    result = decode(saved(made), THREE)
    assert isinstance(result, Decoded) or result.code == "corrupt"


def test_colours_that_are_not_read_are_named():
    made = dataset(RGB, PhotometricInterpretation="YBR_PARTIAL_420")
    assert refusal(saved(made)).detail == "A DICOM in YBR_PARTIAL_420 is not read: save it as RGB."
    made = dataset(RGB, PhotometricInterpretation="DOE JANE")
    assert "JANE" not in refusal(saved(made)).detail


# Compressed kinds


@pytest.mark.parametrize(
    ("syntax", "values"),
    [(RLE, RAMP), (RLE, RGB), ("1.2.840.10008.1.2.4.90", RAMP), ("1.2.840.10008.1.2.4.90", RGB)],
)
def test_lossless_compression_is_exact(syntax, values):
    made = dataset(values, bits=12 if values.ndim == 2 else 8)
    expected = stretched(RAMP) if values.ndim == 2 else RGB
    want = ONE if values.ndim == 2 else THREE
    np.testing.assert_array_equal(pixels(saved(made, compressed=syntax), want), expected)


def encapsulated(made, syntax, *frames, **elements):
    from pydicom.encaps import encapsulate

    made.file_meta.TransferSyntaxUID = syntax
    for name, value in elements.items():
        setattr(made, name, value)
    made.PixelData = encapsulate([*frames])
    made["PixelData"].VR, made["PixelData"].is_undefined_length = "OB", True
    return saved(made)


def jpeg(values, **options):
    from io import BytesIO

    from PIL import Image

    Image.fromarray(values).save(stream := BytesIO(), "JPEG", quality=95, **options)
    return stream.getvalue()


BASELINE = "1.2.840.10008.1.2.4.50"


def test_a_jpeg_is_read_and_its_damage_refused():
    content = jpeg(RGB, subsampling=0)
    data = encapsulated(dataset(RGB), BASELINE, content, PhotometricInterpretation="YBR_FULL")
    assert abs(pixels(data, THREE) - RGB).max() <= 12
    cut = content[:-300]
    refused = refusal(encapsulated(dataset(RGB), BASELINE, cut))
    assert refused.code == "truncated"
    holed = cut + bytes(100) + content[len(cut) + 100 :]
    assert refusal(encapsulated(dataset(RGB), BASELINE, holed)).code in ("corrupt", "truncated")


def test_a_jpeg_of_another_size_than_the_header_is_refused_before_it_is_decoded():
    data = encapsulated(dataset(GREY), BASELINE, jpeg(np.zeros((4000, 4000), np.uint8)))
    assert refusal(data, max_pixels=10_000).detail == (
        "The DICOM cannot be decoded: its pixels have another size than its header says, or other "
        "colours."
    )
    data = encapsulated(dataset(GREY), BASELINE, jpeg(np.zeros((*GREY.shape, 3), np.uint8)))
    assert "or other colours" in refusal(data).detail


def test_items_of_sequences_are_counted_before_they_are_read(monkeypatch):
    monkeypatch.setattr(dicom_header, "MAX_ITEMS", 5)
    kept = saved(dataset(GREY, ReferencedImageSequence=[item(Rows=1)] * 5))
    assert not isinstance(decode(kept, ONE), Rejected)
    refused = refusal(saved(dataset(GREY, ReferencedImageSequence=[item(Rows=1)] * 6)))
    assert refused.code == "too_large"
    assert refused.detail == "The DICOM has 6 items in sequences; the limit is 5."


@pytest.mark.parametrize(
    ("syntax", "kind"),
    [("1.2.840.10008.1.2.4.100", "A DICOM video is not read: export its frames."),
     ("1.2.840.10008.1.2.9", "A DICOM (of an unknown transfer syntax) is not read: save it"),
     ("1.2.840.10008.1.2.4.94", "is not read: save it without compression")],
)  # fmt: skip
def test_kinds_of_compression_that_are_not_read_are_named(syntax, kind):
    video = "1.2.840.10008.1.2.4.100"
    data = encapsulated(dataset(GREY), video, b"\0\0")  # pydicom writes no unknown ones
    data = data.replace(video.encode(), syntax.encode().ljust(len(video), b"\0"))
    assert kind in refusal(data).detail


# Frames


def test_the_first_frame_or_the_middle_one():
    frames = np.stack([RAMP, RAMP[::-1], RAMP[:, ::-1]])
    frames[1, 0, 0] = 4000
    data = saved(dataset(frames, bits=12, frames=3))
    np.testing.assert_array_equal(seen(data), stretched(RAMP))
    np.testing.assert_array_equal(seen(data, frame="middle"), stretched(frames[1]))
    data = saved(dataset(frames, bits=12, frames=3), compressed=RLE)
    np.testing.assert_array_equal(seen(data, frame="middle"), stretched(frames[1]))


def test_each_frame_of_an_enhanced_file_has_its_own_window():
    frames = np.stack([RAMP, RAMP])
    windows = [item(FrameVOILUTSequence=[item(WindowCenter=c, WindowWidth=500)]) for c in (900, 99)]
    shared = item(PixelValueTransformationSequence=[item(RescaleSlope=2, RescaleIntercept=-100)])
    data = saved(dataset(
        frames, frames=2, PerFrameFunctionalGroupsSequence=windows,
        SharedFunctionalGroupsSequence=[shared],
    ))  # fmt: skip
    np.testing.assert_array_equal(seen(data), windowed(RAMP * 2.0 - 100, 900, 500))
    middle = seen(data, frame="middle")
    np.testing.assert_array_equal(middle, windowed(RAMP * 2.0 - 100, 99, 500))


# Preambles, and files that hold no picture


@pytest.mark.parametrize(
    "preamble", [b"", b"II*\0\x54\1\0\0", b"MM\0*\0\0\1\x54", b"\xff\xd8\xff\xe0\0\x10JFIF"]
)
def test_a_preamble_may_look_like_another_format(preamble):
    data = saved(dataset(RAMP, bits=12))
    np.testing.assert_array_equal(pixels(preamble.ljust(128, b"\0") + data[128:]), stretched(RAMP))


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, BIG])
def test_files_without_preamble(syntax):
    data = saved(dataset(RAMP, bits=12, syntax=syntax))
    length = int.from_bytes(data[140:144], "little")
    headless = data[144 + length :]
    assert headless[:2] in (b"\x08\0", b"\0\x08")
    np.testing.assert_array_equal(pixels(headless), stretched(RAMP))
    if syntax != BIG:  # pydicom looks for group 2 in the order of the rest
        np.testing.assert_array_equal(pixels(data[132:]), stretched(RAMP))


@pytest.mark.parametrize(
    ("sop", "kind"),
    [("1.2.840.10008.5.1.4.1.1.88.11", "structured report"),
     ("1.2.840.10008.5.1.4.1.1.11.1", "presentation state"),
     ("1.2.840.10008.5.1.4.1.1.481.5", "radiotherapy plan"),
     ("1.2.840.10008.5.1.4.1.1.9.1.1", "waveform"),
     ("1.2.840.10008.5.1.4.1.1.104.1", "encapsulated document"),
     ("1.2.840.10008.1.3.10", "directory (DICOMDIR)")],
)  # fmt: skip
def test_what_holds_no_picture_is_refused_by_its_kind(sop, kind):
    made = dataset(RAMP, sop=sop)
    for name in ("PixelData", "Rows", "Columns"):
        delattr(made, name)
    refused = refusal(saved(made))
    assert refused.code == "unsupported_format"
    assert refused.detail == f"A DICOM {kind} holds no picture."


@pytest.mark.parametrize(
    "data", [bytes(128) + b"DICM" + bytes(200), b"\x08\0\5\0CS\x0a\0ISO_IR 100",
             b"\x08\0\0\0\4\0\0\0\x10\1\0\0"],
)  # fmt: skip
def test_a_header_alone_is_no_picture(data):
    assert refusal(data).detail == "A DICOM without pixels holds no picture."


def test_without_pydicom_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(extra, "is_installed", lambda name: False)
    refused = refusal(saved(dataset(RAMP)))
    assert refused.code == "unsupported_format"
    assert refused.detail == "A DICOM needs: pip install 'sightstream[dicom]'."


# Limits and damage


def test_limits_are_those_of_the_header():
    made = dataset(RAMP)
    made.Rows = made.Columns = 20_000
    refused = refusal(saved(made))
    assert (refused.code, refused.width, refused.height) == ("too_many_pixels", 20_000, 20_000)
    made = dataset(np.zeros((8, 8), "u8"))
    made.Rows = made.Columns = 11_900
    assert refusal(saved(made), max_pixels=200_000_000).code == "too_large"


def test_deflated_files_are_inflated_within_bounds(monkeypatch):
    data = saved(dataset(RAMP, bits=12, syntax=DEFLATED))
    np.testing.assert_array_equal(pixels(data), stretched(RAMP))
    assert refusal(data[:-400]).code == "truncated"
    monkeypatch.setattr(dicom_header, "MAX_INFLATED", 1000)
    refused = refusal(data)
    assert (refused.code, refused.detail) == ("too_large", "The DICOM inflates to more than 0 MB.")


def test_a_deflated_bomb_takes_no_memory():
    made = saved(dataset(RAMP, syntax=DEFLATED))
    meta = made[: 144 + int.from_bytes(made[140:144], "little")]
    packer = zlib.compressobj(1, zlib.DEFLATED, -15)
    bomb = b"".join(packer.compress(bytes(2**24)) for _ in range(17)) + packer.flush()
    assert refusal(meta + bomb).code == "too_large"


@pytest.mark.parametrize("compressed", ["", RLE, "1.2.840.10008.1.2.4.90"])
def test_files_that_end_too_early_are_truncated(compressed):
    data = saved(dataset(RAMP, bits=12), compressed=compressed)
    start = data.rindex(b"\xe0\x7f\x10\0")
    for share in (0, 0.01, 0.5, 0.9):
        end = start + 12 + int((len(data) - start - 12) * share)
        assert refusal(data[:end]).code == "truncated"


@pytest.mark.parametrize("name", ["Rows", "Columns", "BitsAllocated", "PhotometricInterpretation"])
def test_headers_that_lack_something_are_corrupt(name):
    made = dataset(RAMP)
    delattr(made, name)
    assert refusal(saved(made)).code == "corrupt"


@pytest.mark.parametrize(
    "changes",
    [{"Rows": 0}, {"SamplesPerPixel": 3}, {"BitsAllocated": 24}, {"BitsStored": 17},
     {"BitsStored": 0}, {"SamplesPerPixel": 60_000}],
)  # fmt: skip
def test_headers_that_contradict_themselves_are_refused(changes):
    assert refusal(saved(dataset(RAMP, **changes))).code in ("corrupt", "unsupported_format")


def test_damaged_headers_never_raise():
    random = np.random.default_rng(5)
    sources = [saved(dataset(RAMP, bits=12, WindowCenter=[1, 2], WindowWidth=[3, 4])),
               saved(palette(dataset(GREY), [[0, 9]] * 3, 16)),
               saved(dataset(RGB), compressed=RLE)]  # fmt: skip
    for source in sources:
        for _ in range(150):
            data = bytearray(source)
            for position in random.integers(132, len(data) - SIDE * SIDE, 3):
                data[position] ^= 1 << int(random.integers(8))
            assert isinstance(decode(bytes(data), ONE), Decoded | Rejected)


def test_neither_warnings_nor_logs_of_pydicom_come_out(caplog):
    name = "QZXWV^JANE"
    made = dataset(RAMP, bits=12, WindowCenter="1234.567", WindowWidth="2222.222", PatientName=name)
    plain = saved(made)
    caplog.set_level(0)
    for old in (b"1234.567", b"MONOCHROME2 ", b"1.2.840.10008.1.2.1\0", dicoms.CT.encode() + b"\0"):
        data = plain.replace(old, name[: len(old)].encode().ljust(len(old)))
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            result = decode(data, ONE)
        assert "QZX" not in repr(result) + repr(seen) + caplog.text
    for end in range(140, len(plain) - 2, 97):
        assert "QZX" not in refusal(plain[:end]).detail + caplog.text


# pydicom's own files


def own(name):
    from pydicom.data import get_testdata_file

    return Path(get_testdata_file(name, download=False)).read_bytes()


@pytest.mark.parametrize(
    "twins",
    [["MR_small.dcm", "MR_small_RLE.dcm", "MR_small_bigendian.dcm", "MR_small_expb.dcm",
      "MR_small_implicit.dcm", "MR_small_padded.dcm", "MR_small_jp2klossless.dcm",
      "MR_small_jpeg_ls_lossless.dcm"],
     ["rtdose.dcm", "rtdose_expb.dcm", "rtdose_rle.dcm"],
     ["liver_1frame.dcm", "liver_expb_1frame.dcm"],
     ["SC_rgb_rle.dcm", "SC_rgb_rle_2frame.dcm", "SC_rgb_rle_16bit.dcm", "SC_rgb_rle_32bit.dcm",
      "SC_rgb_jpeg_gdcm.dcm"],
     ["SC_rgb_small_odd.dcm", "SC_rgb_small_odd_big_endian.dcm"],
     ["SC_rgb_jpeg.dcm", "SC_rgb_jpeg_dcmd.dcm", "SC_jpeg_no_color_transform.dcm"],
     ["JPEG-lossy.dcm", "JPGExtended.dcm"]],
    ids=lambda names: names[0],
)  # fmt: skip
def test_one_picture_in_many_encodings_has_one_set_of_pixels(twins):
    first, *others = (decode(own(name), Preprocessing(64, 64)) for name in twins)
    assert isinstance(first, Decoded), first
    for name, other in zip(twins[1:], others, strict=True):
        assert isinstance(other, Decoded), (name, other)
        far = np.abs(other.pixels.astype(int) - first.pixels.astype(int)).max()
        assert far <= 1, name


def test_the_palette_of_an_ultrasound_is_read_as_dcmtk_reads_it():
    places = [20, 100, 150, 0], [30, 400, 420, 0]
    colours = [[136, 170, 211], [162, 162, 162], [20, 20, 20], [37, 62, 94]]  # of dcmj2pnm
    result = decode(own("examples_palette.dcm"), Preprocessing(350, 800))
    assert isinstance(result, Decoded)
    assert abs(result.pixels[places].astype(int) - colours).max() <= 1


def test_pydicom_is_imported_by_the_first_dicom_only(tmp_path):
    import subprocess
    import sys

    (tmp_path / "a.dcm").write_bytes(saved(dataset(RAMP)))
    code = (
        "import sys; from sightstream.images.decode import Preprocessing, decode, formats\n"
        "formats.names(); decode(b'GIF89a' + bytes(9), Preprocessing(8, 8))\n"
        "assert not {'pydicom', 'libjpeg', 'openjpeg'} & {*sys.modules}\n"
        f"decode(open({str(tmp_path / 'a.dcm')!r}, 'rb').read(), Preprocessing(8, 8))\n"
        "assert 'pydicom' in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
