"""sightstream.images.frames: how many events a file is, before a pixel is decoded."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from sightstream.images import dicom, frames
from sightstream.images.decode import Decoded, Preprocessing, decode
from sightstream.images.limits import Limits, Rejected
from tests.dicoms import DEFLATED, RLE, dataset, saved, stack

LIMITS = Limits()
EACH = Preprocessing(4, 6, 1, frame="each")
STACK = stack(5)


def white(pixels):
    return int((pixels == 255).sum())


@pytest.mark.parametrize("compressed", ["", RLE])
def test_each_frame_is_counted_and_decoded_alone(compressed):
    data = saved(dataset(STACK, frames=5), compressed=compressed)
    assert frames.count(data, LIMITS) == 5
    found = [decode(data, Preprocessing(4, 6, 1, frame=n)) for n in range(1, 6)]
    assert [white(each.pixels) for each in found] == [1, 2, 3, 4, 5]
    assert decode(data, Preprocessing(4, 6, 1, frame=6)) == Rejected(
        "unsupported_format", "The DICOM has 5 frames, and the model sees its 6.", "DICOM", 6, 4
    )


def test_a_file_is_counted_by_its_path(tmp_path):
    path = tmp_path / "heart.dcm"
    path.write_bytes(saved(dataset(STACK, frames=5)))
    assert frames.count(str(path), LIMITS) == 5
    assert frames.Counter(LIMITS).count(str(path)) == 5
    assert frames.count(str(tmp_path / "none.dcm"), LIMITS) == 1


def test_a_single_frame_is_an_event_as_any_picture_is():
    data = saved(dataset(STACK[2]))
    assert frames.count(data, LIMITS) == 1
    assert white(decode(data, EACH).pixels) == 3
    animated = BytesIO()
    Image.new("L", (4, 4)).save(
        animated, "GIF", save_all=True, append_images=[Image.new("L", (4, 4), 255)]
    )
    assert frames.count(animated.getvalue(), LIMITS) == 1
    assert isinstance(decode(animated.getvalue(), EACH), Decoded)


def one_reason(data):
    """The code of a file that is one event although it has frames."""
    assert frames.count(data, LIMITS) == 1
    found = decode(data, EACH)
    assert isinstance(found, Rejected)
    return found.code, found.detail


def test_a_file_of_too_many_frames_is_one_event_and_says_so():
    many = saved(dataset(np.zeros((dicom.MAX_FRAMES + 1, 2, 2), np.uint8), frames=1001))
    assert one_reason(many) == ("too_large", "The DICOM has 1,001 frames; the limit is 1,000.")
    most = saved(dataset(np.zeros((1000, 2, 2), np.uint8), frames=1000))
    assert frames.count(most, LIMITS) == 1000
    claims = dataset(STACK, frames=5)
    claims.NumberOfFrames = 2**31 - 1
    assert one_reason(saved(claims))[0] == "too_large"


@pytest.mark.parametrize("compressed", ["", RLE])
def test_a_file_without_its_last_frames_is_one_event(compressed):
    made = dataset(STACK, frames=5)
    if compressed:
        made.compress(compressed)
    made.NumberOfFrames = 7
    data = saved(made)
    assert one_reason(data) == (
        "truncated", f"The DICOM ends too early, after {len(data):,} bytes.",
    )  # fmt: skip


def test_what_cannot_be_read_at_all_is_one_event():
    whole = saved(dataset(STACK, frames=5))
    assert one_reason(whole[:-20])[0] == "truncated"
    assert one_reason(whole[:200])[0] in {"truncated", "corrupt", "unsupported_format"}
    assert one_reason(saved(dataset(STACK, frames=5, syntax=DEFLATED)))[1] == (
        "A DICOM of several deflated frames is not read: save it without deflation."
    )
    assert frames.count(whole, Limits(max_pixels=23)) == 1
    assert decode(whole, EACH, Limits(max_pixels=23)).code == "too_many_pixels"
    assert frames.count(whole, Limits(max_bytes=100)) == 1
    assert frames.count(None, LIMITS) == frames.count(Rejected("not_found", ""), LIMITS) == 1


def test_who_gives_one_answer_a_file_says_who_gives_more():
    assert one_answer(saved(dataset(STACK, frames=5))) == (
        "unsupported_format",
        "A DICOM of 5 frames is no single picture, and the model sees each: "
        "sightstream run and backfill give each frame a row.",
    )


def one_answer(data):
    found = decode(data, EACH)
    return found.code, found.detail


def test_a_row_tells_the_frame_that_it_shows():
    assert (frames.shown("a"), frames.is_further("a")) == ("first", False)
    assert (frames.shown("a#frame=12"), frames.is_further("a#frame=12")) == (12, True)
    for other in ("a#frame=", "a#frame=2#b", "#frame=-1", "a#frame=12345"):
        assert (frames.shown(other), frames.is_further(other)) == ("first", False)
    assert frames.shown("a#frame=0") == 1
