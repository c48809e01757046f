"""boxes: sizes of every form, and files that end too early."""

import pytest

from sightstream.images.boxes import are_cut_short, top_level

SMALL = b"\0\0\0\x0cabcd1234"
LARGE = b"\0\0\0\1efgh" + (20).to_bytes(8, "big") + b"5678"
LAST = b"\0\0\0\0ijkl90"


def test_sizes_of_every_form():
    data = SMALL + LARGE + LAST
    found = [(kind, data[begin:end]) for kind, begin, end in top_level(data)]
    assert found == [(b"abcd", b"1234"), (b"efgh", b"5678"), (b"ijkl", b"90")]
    assert not are_cut_short(data)


@pytest.mark.parametrize("data", [SMALL + LARGE[:-1], LARGE[:-1], SMALL[:11], b""])
def test_a_box_that_should_end_later(data):
    assert are_cut_short(data)


@pytest.mark.parametrize("size", [2, 7])
def test_a_size_below_that_of_its_header_ends_the_list(size):
    assert list(top_level(size.to_bytes(4, "big") + b"abcd" + bytes(90))) == []
